"""The virtual runs from which a model is profiled: two small ones and a large one.

The two small numbers of tokens give constants and slopes, the largest that matters shows windows.
Layers that are identical are run once (``virtual.folding``); should the model's code not bear that,
all of them are run.

At the large number some code loops over tokens or chunks of them and would take minutes (the
gated delta rule of Qwen3-Next: 456,000 ops at 131,072 tokens, 26 s).  Every block may therefore
take only a few times the ops of a small run.  One that passes its limit is given the result that
the two small runs foretell, if its cache does not grow, together with its like; else the large
run is made smaller, and a note says what is not seen.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from torch import nn

from devplan.core import CacheGrowth, InputError, SharedInput, UserCodeError, Workload, named_line
from devplan.inputs import InputRequest, NoExampleInputs, example_inputs, plain_inputs, user_inputs
from devplan.models import BlockSite, Skeleton
from devplan.profile.cache import block_growths
from devplan.profile.model import RunProfile
from devplan.virtual import (
    ForwardCall,
    GenerateCall,
    ModelCall,
    OneCard,
    Outcome,
    PartCall,
    TooManyOps,
    Trace,
    entered_part,
    extrapolate,
    layer_kinds,
)

SMALL_TOKENS, MEDIUM_TOKENS = 24, 40
"""Tokens of the two runs that give constant and slope.  More than the widest convolution of a
state-space layer (4 in Mamba), fewer than any attention window in use (128 in gpt-oss).  Loops
over chunks of more tokens (64 in the gated delta rule) are stopped by the limits of the large
run."""

MOST_TOKENS = 2**20
"""No context longer than this is looked at for windows."""

MOST_OPS = 20_000
"""Ops of the large run together, a few seconds."""

LOOP_FACTOR, LOOP_OPS = 4, 200
"""A block that takes more than `LOOP_FACTOR` times the ops of the run at `MEDIUM_TOKENS` tokens,
and `LOOP_OPS` more, loops over tokens.  Layers of a transformer take 20 to 100 ops whatever the
length; the slack is for code that takes another branch for long inputs."""

MOST_SMALL_OPS = 200_000
"""Ops of a small run, about a minute: more is taken for an endless loop."""


class MakesInputs(Protocol):
    """Makes keyword arguments of ``forward`` for a number of tokens."""

    def make(self, tokens: int) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class SmallRuns:
    """A skeleton, how it is run, and its two small runs."""

    skeleton: Skeleton
    card: OneCard
    """Where it is run."""
    sites: tuple[BlockSite, ...]
    inputs: MakesInputs
    fold: bool
    """Whether identical layers are run once."""
    small: Trace = field(default_factory=Trace)
    medium: Trace = field(default_factory=Trace)

    @property
    def layers(self) -> set[str]:
        """Blocks that are part of a stack."""
        return {site.name for site in self.sites if site.stack is not None}

    def run(self, inputs: Mapping[str, Any], **options: Any) -> Trace:
        """Follow one forward of the model; options as for `Dispatched.follow`."""
        part, trace = entered_part(self.skeleton.model), Trace()
        call: ModelCall = ForwardCall()
        if part is not None:
            call = PartCall(part=part[0], call=call)
        self.card.placed.follow(inputs, call=call, observers=(trace,), fold=self.fold, **options)
        return trace


def entry_of(skeleton: Skeleton) -> nn.Module:
    """The model, or the part of it by which it is entered where it has no ``forward``."""
    part = entered_part(skeleton.model)
    return part[1] if part is not None else skeleton.model


def small_runs(
    skeleton: Skeleton, card: OneCard, sites: tuple[BlockSite, ...], fold: bool
) -> SmallRuns:
    """The two small runs, with the first kind of inputs that the model accepts.

    Raises
    ------
    Exception
        What the model said to the first kind of inputs, when it accepts none.
    """
    entry = entry_of(skeleton)
    both = partial(_both, skeleton, card, sites, fold)
    if skeleton.own_inputs is not None and entry is skeleton.model:
        return both(_OwnInputs(skeleton, card))
    config = skeleton.config if entry is skeleton.model else entry.config
    try:
        kinds: list[MakesInputs] = list(plain_inputs(entry, config))
        reason: Exception | None = None
    except NoExampleInputs as error:
        kinds, reason = [], error
    kinds.append(_AnyInputs(model=entry, config=config, card=card))
    for inputs in kinds:
        try:
            return both(inputs)
        except Exception as error:  # the model's own code: anything can happen
            reason = reason or error
    assert reason is not None
    raise reason


@dataclass(frozen=True, kw_only=True)
class _AnyInputs:
    """Inputs with images, sounds or latents, for models that do not run on text alone."""

    model: nn.Module
    config: Any
    card: OneCard

    def make(self, tokens: int) -> Mapping[str, Any]:
        request = InputRequest(tokens=tokens)
        made = example_inputs(self.model, self.config, request, card=self.card)
        accepted = inspect.signature(self.model.forward).parameters
        return {**made.kwargs, **({"use_cache": True} if "use_cache" in accepted else {})}


@dataclass(frozen=True)
class _OwnInputs:
    """What the user's function gives, however many tokens are asked for."""

    skeleton: Skeleton
    card: OneCard

    def make(self, tokens: int) -> Mapping[str, Any]:
        self.card.clear()
        reference = self.skeleton.own_inputs
        return user_inputs(reference, self.skeleton.model, self.skeleton.config).kwargs


def _both(
    skeleton: Skeleton,
    card: OneCard,
    sites: tuple[BlockSite, ...],
    fold: bool,
    inputs: MakesInputs,
) -> SmallRuns:
    """The two small runs, identical layers folded where asked and where the code bears it."""
    few, more = inputs.make(SMALL_TOKENS), inputs.make(MEDIUM_TOKENS)
    runs = SmallRuns(skeleton=skeleton, card=card, sites=sites, inputs=inputs, fold=fold)
    try:
        return _run_both(runs, few, more)
    except Exception:
        if not (fold and layer_kinds(sites, skeleton.config)):
            raise
    return _run_both(replace(runs, fold=False), few, more)


def _run_both(runs: SmallRuns, few: Mapping[str, Any], more: Mapping[str, Any]) -> SmallRuns:
    limited = partial(runs.run, limit_ops=MOST_SMALL_OPS)
    return replace(runs, small=limited(few), medium=limited(more))


# -------------------------------------------------------------------------------- large run


def large_run(
    runs: SmallRuns, workload: Workload
) -> tuple[tuple[int, Trace] | None, tuple[str, ...]]:
    """(tokens, trace) of the run that shows windows, at as many tokens as can be had.

    None where it was not needed (nothing is cached) or could not be had.
    """
    if not growths(runs, None, None):
        return None, ()
    asked, promised = workload.tokens, runs.skeleton.max_tokens
    wanted = min(max(asked, promised or asked), MOST_TOKENS)
    needed = min(asked, promised or asked, MOST_TOKENS)
    reason = ""
    for tokens in _attempts(wanted, needed):
        try:
            trace = _run_without_loops(runs, tokens)
        except TooManyOps as error:
            reason = reason or str(error)
            continue
        except Exception as error:
            reason = reason or named_line(error)
            continue
        seen = () if tokens >= needed else (_unseen(tokens, reason),)
        return (tokens, trace), seen
    return None, (_unseen(MEDIUM_TOKENS, reason),) if wanted > MEDIUM_TOKENS else ()


def _attempts(wanted: int, needed: int) -> list[int]:
    """Numbers of tokens to try, falling; beyond its promised context a model may well fail."""
    tries = {wanted, needed, 8192, 2048, 512, 128}
    return sorted((tokens for tokens in tries if MEDIUM_TOKENS < tokens <= wanted), reverse=True)


def _unseen(tokens: int, reason: str) -> str:
    return (
        f"no virtual run of more than {tokens:,} tokens ({reason}); attention windows above that "
        "are not seen and count as full attention"
    )


def _run_without_loops(runs: SmallRuns, tokens: int) -> Trace:
    """The run at `tokens`, blocks that loop over tokens given instead of run where that can be.

    Raises
    ------
    TooManyOps
        When a block loops whose cache grows, or the code between the blocks does.
    """
    small_growths = growths(runs, None, None)
    preset: dict[str, Outcome] = {}
    limits = {
        "limit_ops": max(MOST_OPS, LOOP_FACTOR * runs.medium.num_ops),
        "block_limits": {
            name: LOOP_FACTOR * ops + LOOP_OPS for name, ops in runs.medium.num_block_ops.items()
        },
    }
    inputs = runs.inputs.make(tokens)
    while True:
        try:
            return runs.run(inputs, preset=preset, **limits)
        except TooManyOps as error:
            given = _foretold(runs, small_growths, error.block, tokens)
            if not given or error.block in preset:
                raise
            preset.update(given)


def _foretold(
    runs: SmallRuns, grown: Mapping[str, tuple[CacheGrowth, ...]], block: str | None, tokens: int
) -> dict[str, Outcome]:
    """Outcomes at `tokens` of a block and its like, from the two small runs; empty: unknown."""
    stack_of = {site.name: site.stack for site in runs.sites}
    steps = (tokens - SMALL_TOKENS) / (MEDIUM_TOKENS - SMALL_TOKENS)
    found: dict[str, Outcome] = {}
    if block is None or any(part.bytes_per_token for part in grown.get(block, ())):
        return found
    for name, after in runs.medium.outcomes.items():
        like = stack_of.get(name) == stack_of.get(block) and grown.get(name) == grown.get(block)
        before = runs.small.outcomes.get(name)
        if not (name == block or like) or before is None:
            continue
        outcome = extrapolate(before, after, steps)
        if outcome is not None:
            found.update(dict.fromkeys((name, *runs.medium.stands_for.get(name, ())), outcome))
    return found


def growths(
    runs: SmallRuns, large: tuple[int, Trace] | None, kv_element_bytes: int | None
) -> dict[str, tuple[CacheGrowth, ...]]:
    """Block -> growths of its cache, from the runs that there are."""
    return block_growths(
        (SMALL_TOKENS, runs.small),
        (MEDIUM_TOKENS, runs.medium),
        large,
        layers=runs.layers,
        kv_element_bytes=kv_element_bytes,
    )


# -------------------------------------------------------------------------------------- run profile


def measure_run(
    skeleton: Skeleton,
    sites: tuple[BlockSite, ...],
    workload: Workload,
    *,
    kv_element_bytes: int | None = None,
    fold: bool = True,
    card: OneCard | None = None,
) -> RunProfile:
    """Run the main path of a skeleton virtually and read off what it shows.

    A run that fails is no error: the profile then holds a note with the reason, no order and no
    cache, and the plan says what it does not know.

    Parameters
    ----------
    skeleton
        The model on the meta device; left as it was.
    sites
        Its blocks.
    workload
        Its context is the least that the window search looks at.
    kv_element_bytes
        Bytes of an element of a KV cache of another dtype than the model's.
    fold
        Whether identical layers are run once.
    card
        One on which the model may lie already, and is left.
    """
    if not skeleton.executable:
        return _nothing(
            "not run: the model's code is not available, so the KV cache is not counted"
        )
    own = OneCard(skeleton.model, skeleton.config, sites)
    with nullcontext(card) if card is not None else own as card:
        return _measured(skeleton, card, sites, workload, kv_element_bytes, fold)


def _measured(
    skeleton: Skeleton,
    card: OneCard,
    sites: tuple[BlockSite, ...],
    workload: Workload,
    kv_element_bytes: int | None,
    fold: bool,
) -> RunProfile:
    try:
        runs = small_runs(skeleton, card, sites, fold)
    except (InputError, UserCodeError):  # of the user's function, which is theirs to repair
        raise
    except Exception as error:  # the model's own code, on inputs that we made: anything can happen
        return _nothing(
            f"the virtual run failed ({named_line(error)}); execution order is that of the module "
            "tree and the KV cache is not counted"
        )
    large, notes = large_run(runs, workload)
    cache = growths(runs, large, kv_element_bytes)
    # [pipeline] nothing of it grows with the tokens alone: its runs say what is copied.
    carried, shared = _input_bytes(runs) if not skeleton.components else ({}, {})
    order = dict.fromkeys((*runs.medium.order, *_order_of_whole(runs)))
    return RunProfile(
        order=tuple(order),
        cache=cache,
        input_bytes_per_token=carried,
        shared_inputs=shared,
        made_up=tuple(sorted(runs.small.made_up | runs.medium.made_up)),
        notes=notes,
    )


def _order_of_whole(runs: SmallRuns) -> tuple[str, ...]:
    """Blocks that ``generate`` of a model without a ``forward`` reaches with the user's inputs.

    What it raises is found again in the split run, and told there.
    """
    skeleton = runs.skeleton
    if skeleton.own_inputs is None or entered_part(skeleton.model) is None:
        return ()
    call, model = GenerateCall(), skeleton.model
    runs.card.clear()
    given = user_inputs(skeleton.own_inputs, model, skeleton.config).kwargs
    trace, inputs = Trace(), call.takes(model, given)
    options = {"observers": (trace,), "fold": runs.fold, "limit_ops": MOST_SMALL_OPS}
    try:
        runs.card.placed.follow(inputs, call=call, **options)
    except Exception:  # the model's own code: anything can happen
        return ()
    return tuple(trace.order)


def _nothing(note: str) -> RunProfile:
    return RunProfile(cache={}, input_bytes_per_token={}, shared_inputs={}, notes=(note,))


# ------------------------------------------------------------------------------ activations


def _input_bytes(runs: SmallRuns) -> tuple[dict[str, int], dict[str, tuple[SharedInput, ...]]]:
    """Per token and block: bytes that are carried into it, and what is shared with others.

    Hidden states leave one block and enter one layer; position embeddings, masks and the
    encoder's output enter many layers.
    """
    small, medium = runs.small, runs.medium
    entered = Counter(
        id(item.tensor) for name in runs.layers for item in medium.inputs.get(name, ())
    )
    carried: dict[str, int] = {}
    shared: dict[str, tuple[SharedInput, ...]] = {}
    for name in medium.order:
        carried[name], shared[name] = 0, ()
        pairs = zip(small.inputs.get(name, ()), medium.inputs[name], strict=False)
        for before, after in pairs:
            per_token = max(after.bytes - before.bytes, 0) // (MEDIUM_TOKENS - SMALL_TOKENS)
            alone = after.maker is not None and entered[id(after.tensor)] <= 1
            if alone:
                carried[name] += per_token
            elif per_token:
                item = SharedInput(maker=after.maker, bytes_per_token=per_token)
                shared[name] = (*shared[name], item)
    return carried, shared
