"""Activations and temporaries of every block as a function of the tokens, learnt from runs.

The model is run virtually on one card as it will be used, ``generate`` or ``forward`` with example
inputs (images and sounds where it takes them), at the workload, a quarter and a sixteenth of it.
What each block needed beside weights and cache is read off (`devplan.virtual.memory`).
Layers that are identical are run once.

Code that loops over tokens would take minutes at the workload.  It is run at a few tokens, and
what it needs at the workload is foretold from these runs; a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from functools import partial, reduce
from typing import Any

import torch

from devplan.core import (
    ActivationGrowth,
    InputError,
    RunRecord,
    UserCodeError,
    Workload,
    ensure,
    named_line,
)
from devplan.inputs import (
    LEAST_TEXT,
    MOST_OPS,
    ExampleInputs,
    InputRequest,
    example_inputs,
    refuse_images_not_taken,
    request_for,
    run_as_usual,
    run_few_tokens,
    user_inputs,
)
from devplan.models import BlockSite, Skeleton
from devplan.profile.model import ActivationProfile
from devplan.virtual import (
    BETWEEN,
    DECODE_STEPS,
    ONE_CARD,
    ModelCall,
    OneCard,
    TooManyOps,
    usual_call,
)

FEW_TOKENS = (32, 64, 128)
"""Tokens of the runs of code that loops."""


def measure_activations(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    workload: Workload,
    calls: tuple[ModelCall, ...] = (),
    *,
    card: OneCard | None = None,
) -> ActivationProfile:
    """Run a skeleton on one virtual card and read off what its blocks need while they run.

    The most of all `calls` counts; none: of the one by which its class is used.  A run that fails
    is no error: the profile is then empty, and a note gives the reason.  `card` is one on which
    the model may lie already.
    """
    if not skeleton.executable:
        return ActivationProfile()
    calls = calls or (usual_call(skeleton.model),)
    with nullcontext(card) if card else OneCard(skeleton.model, skeleton.config, sites) as card:
        found = (_of_call(skeleton, card, workload, call) for call in calls)
        return reduce(joined_activations, found)


def _of_call(
    skeleton: Skeleton, card: OneCard, workload: Workload, call: ModelCall
) -> ActivationProfile:
    shown: list[tuple[int, ...]] = []
    try:
        records, notes = _records(skeleton, card, workload, shown, call)
    except (InputError, UserCodeError):
        raise
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        reason = named_line(error)
        return ActivationProfile(raised=reason, notes=(_uncounted(reason),))
    samples: dict[str, dict[int, int]] = defaultdict(dict)
    for tokens, record in records.items():
        for name, num_bytes in most_needed(record, ONE_CARD).items():
            samples[name][tokens] = num_bytes
    grown = {
        name: ActivationGrowth(samples=rising(found), batch=workload.batch)
        for name, found in samples.items()
    }
    between = grown.pop(BETWEEN, None)
    made = shown[-1] if shown else None
    raised = next((r.error.message for r in records.values() if r.error is not None), "")
    return ActivationProfile(
        blocks=grown, between=between, raised=raised, made_shape=made, notes=notes
    )


def contexts(context: int) -> tuple[int, ...]:
    """The contexts that are run: the workload's, a quarter and a sixteenth of it."""
    least = min(FEW_TOKENS[0], context)
    return tuple(sorted({max(context // part, least) for part in (16, 4, 1)}))


def _records(
    skeleton: Skeleton,
    card: OneCard,
    workload: Workload,
    shown: list[tuple[int, ...]],
    call: ModelCall,
) -> tuple[dict[int, RunRecord], tuple[str, ...]]:
    """Context -> what the run showed; the shape of what a pipeline made is put into `shown`."""
    if skeleton.components or skeleton.own_inputs:  # what it needs does not grow with tokens
        tokens = workload.tokens
        record = _run(skeleton, card, workload, tokens, run_as_usual, call, shown)
        return {tokens: record, 1: record}, ()
    asked = contexts(workload.tokens)
    try:  # the largest first: where it takes too long, the others need not be tried
        limited = partial(run_as_usual, limit_ops=MOST_OPS)
        records = {n: _run(skeleton, card, workload, n, limited, call) for n in asked[::-1]}
        return records, _ways_in(records.values())
    except TooManyOps as reason:
        few = {n: _run(skeleton, card, workload, n, run_few_tokens, call) for n in FEW_TOKENS}
        note = f"activations are foretold from runs of up to {FEW_TOKENS[-1]} tokens ({reason})"
        return few, (note, *_ways_in(few.values()))


def _ways_in(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """Which other ways in were run, in words."""
    return tuple(dict.fromkeys(record.entered for record in records if record.entered))


def _run(
    skeleton: Skeleton,
    card: OneCard,
    workload: Workload,
    context: int,
    run: Callable[..., RunRecord],
    call: ModelCall,
    shown: list[tuple[int, ...]] | None = None,
) -> RunRecord:
    model = skeleton.model
    new_tokens = 0 if skeleton.components else DECODE_STEPS + 1
    prompt = max(context - new_tokens, 1)
    request = request_for(workload, prompt)
    if skeleton.own_inputs is not None:
        card.clear()
        example = user_inputs(skeleton.own_inputs, model, skeleton.config)
    else:
        example = example_inputs(model, skeleton.config, request, card=card)
    if workload.images and context == workload.tokens:
        _refuse_images(example, workload, request)
    record = run(
        card.placed,
        example,
        described="",
        call=call,
        on_output=lambda output: None if shown is None else shown.extend(made_shapes(output)),
    )
    if record.error is not None and not record.activations:
        raise RuntimeError(f"{record.error.type}: {record.error.message}")
    return record


def made_shapes(output: Any) -> list[tuple[int, ...]]:
    """Frames, height and width of what a pipeline made; one frame where it is a picture."""
    for name, frames_at in (("frames", 1), ("images", None)):
        made = getattr(output, name, None)
        if isinstance(made, torch.Tensor):
            frames = 1 if frames_at is None else made.shape[frames_at]
            return [(frames, *made.shape[-2:])]
    return []


def _refuse_images(example: ExampleInputs, workload: Workload, request: InputRequest) -> None:
    """Images that were asked for go to a model that takes them, and into the context."""
    refuse_images_not_taken(example, request)
    ids = example.kwargs.get("input_ids")
    if not isinstance(ids, torch.Tensor):
        return
    needed = ids.shape[-1] + DECODE_STEPS + 1
    if needed > max(workload.tokens, LEAST_TEXT + DECODE_STEPS + 1):
        size = "{}x{}".format(*request.image_size)
        raise InputError(
            f"--context {workload.tokens} does not hold --images {workload.images} of "
            f"{size} pixels, which with a short question take {needed:,} tokens; give --context "
            f"{needed} or more, or smaller or fewer images"
        )


def _uncounted(reason: str) -> str:
    return f"activations are not counted, the virtual run failed ({reason}); --reserve holds them"


# ------------------------------------------------------------------------------------------ joining
#
# Activations of one model from runs at several ranges of tokens are joined into one profile.


def joined_activations(first: ActivationProfile, second: ActivationProfile) -> ActivationProfile:
    """What two profiles of one batch know together.

    Where both ran at the same number of tokens, the larger need counts.  A profile that could
    not be had (its run raised) adds nothing.
    """
    if not second.blocks and second.between is None:
        return first
    names = dict.fromkeys((*first.blocks, *second.blocks))
    return ActivationProfile(
        blocks={name: _joined(first.blocks.get(name), second.blocks.get(name)) for name in names},
        between=_joined(first.between, second.between),
        raised=first.raised,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def _joined(a: ActivationGrowth | None, b: ActivationGrowth | None) -> ActivationGrowth | None:
    if a is None or b is None:
        return a or b
    ensure(a.batch == b.batch, "runs of different batches")
    most: dict[int, int] = dict(a.samples)
    for tokens, num_bytes in b.samples:
        most[tokens] = max(num_bytes, most.get(tokens, 0))
    return ActivationGrowth(samples=rising(most), batch=a.batch)


def most_needed(record: RunRecord, device: str) -> dict[str, int]:
    """Block -> the most bytes of activations that it needed on a device in any phase."""
    most: defaultdict[str, int] = defaultdict(int)
    for item in record.activations:
        if item.device == device:
            most[item.block] = max(most[item.block], item.num_bytes)
    return dict(most)


def rising(samples: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """(tokens, bytes) in the order of the tokens, bytes never falling."""
    found: list[tuple[int, int]] = []
    for tokens, num_bytes in sorted(samples.items()):
        found.append((tokens, max(num_bytes, found[-1][1] if found else 0)))
    return tuple(found)
