"""The virtual runs of a check: the call at the workload, then the short ones (`matrix`).

accelerate's hooks are attached once for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from devplan.checker.matrix import FEW_TOKENS, ShortCall, main_call, short_calls
from devplan.checker.run_options import ALL, IN_WORDS, USUAL, RunOptions
from devplan.core import DISPATCH, OFFLOAD_DEVICES, MissedRun, RunRecord, Workload
from devplan.inputs import (
    MOST_OPS,
    ExampleInputs,
    InputRequest,
    NoExampleInputs,
    example_inputs,
    refuse_images_not_taken,
    request_for,
    run_as_asked,
    run_as_usual,
    run_few_tokens,
    user_inputs,
)
from devplan.models import partition
from devplan.rules import CheckContext
from devplan.sandbox import exclusively
from devplan.virtual import (
    DECODE_STEPS,
    Dispatched,
    ForwardCall,
    GenerateCall,
    ModelCall,
    PipelineCall,
    SplitModel,
    TooManyOps,
    UserCall,
    VirtualCard,
    dispatched,
    other_ways_in,
    steps_asked_for,
)

Around = Callable[[ModelCall], ModelCall]


@exclusively
def run_all(context: CheckContext, options: RunOptions) -> CheckContext:
    """The context with every run that was asked for, and with those that did not happen.

    Parameters
    ----------
    context, options
        The model with its map, and how it is run.

    Raises
    ------
    InputError
        When the class cannot be called as asked, or the time is up.
    UserCodeError
        When a function of the user's raises.
    """
    return _run(context, options, None, short=True)


@exclusively
def run_prepared(
    context: CheckContext, options: RunOptions, around: Around | None = None
) -> tuple[RunRecord | None, str]:
    """The record of the call at the workload alone, or why there is none.

    `around` gives another call for the call; the rest is as for `run_all`.
    """
    context = _run(context, options, around, short=False)
    return (context.runs[0] if context.runs else None), context.not_run


def planned_calls(
    context: CheckContext, options: RunOptions, *, short: bool = True
) -> Iterator[tuple[str, Iterator[tuple[ModelCall, Mapping[str, Any]]]]]:
    """The calls that `run_all` makes, or `run_prepared` (without `short`), each by its name with
    the forms in which it is tried.

    A form is the call and its keyword arguments, integers real and floats on the meta device; the
    first that the model takes is the one that counts.

    Raises
    ------
    NoExampleInputs
        When no inputs can be made for the call at the workload.
    """
    runner = _Runner(context, options, None)
    model = runner.split.model
    runner.make_inputs(short=short)
    ways = (runner.call, *other_ways_in(model, runner.call))
    yield runner.call.name, ((call, call.takes(model, runner.example.kwargs)) for call in ways)
    for way, (other, example) in runner.shorts.items():
        forms = (other.call.takes(model, inputs.kwargs) for inputs in other.inputs(example))
        yield IN_WORDS[way], ((other.call, kwargs) for kwargs in forms)


def _run(
    context: CheckContext, options: RunOptions, around: Around | None, *, short: bool
) -> CheckContext:
    if reason := cannot_run(context):
        return replace(context, not_run=reason)
    runner = _Runner(context, options, around)
    try:
        runner.make_inputs(short=short)
        with dispatched(runner.split) as placed:
            runner.run_main(placed)
            if short and runner.is_dispatched:
                runner.run_short(placed)
    except NoExampleInputs as error:
        reason = f"{error}; give the inputs with --inputs FILE.py:FUNCTION"
        return replace(context, not_run=reason)
    except TooManyOps as error:
        return replace(context, not_run=f"the model's code did not end: {error}")
    done, missed = runner.done, runner.missed
    if not (options.is_users or options.inputs):
        done, refused = ask_one_gpu(runner.split, done)
        missed += [refusal(runner.split.model, each) for each in refused]
    if options.run not in (USUAL, ALL):  # what was asked for by name counts
        missed = [replace(each, is_refused=False) for each in missed]
    return replace(context, runs=tuple(each.record for each in done), missed=tuple(missed))


class _Runner:
    """Makes the calls of one check and keeps what they showed."""

    def __init__(self, context: CheckContext, options: RunOptions, around: Around | None) -> None:
        skeleton = context.skeleton
        self.context, self.options = context, options
        self.usual = main_call(skeleton.model, options)
        self.call = self.usual if around is None else around(self.usual)
        self.request = request_of(context, options)
        self.shorts: dict[str, tuple[ShortCall, ExampleInputs]] = {}
        self.done: list[Done] = []
        self.missed: list[MissedRun] = []
        self.split = SplitModel(
            model=skeleton.model,
            config=skeleton.config,
            sites=partition(skeleton.model, skeleton.no_split),
            device_map=context.device_map,
            main_device=context.main_device,
            cards=virtual_cards(context),
        )
        # [user] what a function of the user's calls has no phases that tell calls apart.
        self.fold = not (options.full or isinstance(self.call, UserCall))

    @property
    def is_dispatched(self) -> bool:
        """Whether accelerate took the map, so that other calls can be made."""
        return all(
            run.error is None or run.error.phase != DISPATCH
            for run in (done.record for done in self.done)
        )

    def make_inputs(self, *, short: bool) -> None:
        """The inputs of every call, made before any: the model's code is asked what it takes.

        Raises
        ------
        NoExampleInputs
            When none can be made for the call at the workload.
        """
        context, options, model = self.context, self.options, self.split.model
        self.example = inputs_for(context, options)
        self.few = self.example
        if options.inputs is None and self.request.tokens > FEW_TOKENS:
            self.few = inputs_for(context, options, replace(self.request, tokens=FEW_TOKENS))
        if not short or not options.ways:
            return
        config = context.skeleton.config
        for call in short_calls(model, config, self.usual, self.example, self.request):
            if call.way in options.ways:
                try:
                    self.shorts[call.way] = call, inputs_for(context, options, call.request)
                except NoExampleInputs as error:
                    name = IN_WORDS[call.way]
                    self.missed.append(MissedRun(name=name, reason=str(error), is_refused=True))

    def _keep(self, placed: Dispatched, done: Done) -> None:
        if raised(done.record):
            done.record = other_way(placed, done) or done.record
        self.done.append(done)
        self.missed += _missing_steps(self.split.model, done)

    # ---------------------------------------------------------------------- at the workload

    def run_main(self, placed: Dispatched) -> None:
        """The call at the workload."""
        example = self.example
        is_usual = self.options.run not in ("generate", "forward") and not self.options.is_users
        run, few = (run_as_usual, run_few_tokens) if is_usual else (run_as_asked, run_as_asked)
        tokens = self.request.tokens
        if isinstance(self.call, PipelineCall):
            record = self._record(run, placed, example, tokens)
        elif tokens <= FEW_TOKENS:
            record = self._record(few, placed, example, tokens)
        else:
            try:
                limited = partial(run, limit_ops=MOST_OPS)
                record = self._record(limited, placed, example, tokens)
            except TooManyOps as reason:
                example = self.few
                record = self._record(few, placed, example, FEW_TOKENS)
                note = f"{reason}, so the run had {FEW_TOKENS} tokens and its peak is that of these"
                notes = (*record.notes, note)
                record = replace(record, notes=notes, cut_to_tokens=FEW_TOKENS)

        def again(placed: Dispatched, **more: Any) -> RunRecord:
            limited = partial(run_as_asked, limit_ops=MOST_OPS)
            return self._record(limited, placed, example, tokens, **more)

        self._keep(placed, Done(record=record, call=self.call, again=again))

    def _record(
        self,
        run: Callable[..., RunRecord],
        placed: Dispatched,
        example: ExampleInputs,
        tokens: int,
        **more: Any,
    ) -> RunRecord:
        words = inputs_in_words(example)
        record = run(placed, example, described=words, call=self.call, fold=self.fold, **more)
        prompt_tokens = tokens if self.options.inputs is None else None
        notes = (*example.notes, *filter(None, [record.entered]), *record.notes)
        return replace(record, name=self.call.name, notes=notes, prompt_tokens=prompt_tokens)

    # -------------------------------------------------------------------------------- short

    def run_short(self, placed: Dispatched) -> None:
        """Every short call that is asked for and that the class has."""
        options, example = self.options, self.example
        told = {missed.name for missed in self.missed}
        for way in options.ways:
            if way in self.shorts:
                self._run_short(placed, *self.shorts[way])
            elif options.run not in (USUAL, ALL) and IN_WORDS[way] not in told:
                reason = f"{type(self.split.model).__name__} cannot be called this way"
                self.missed.append(MissedRun(name=IN_WORDS[way], reason=reason))
        if options.run == ALL and isinstance(self.usual, GenerateCall):
            again = partial(self._call, example.kwargs, inputs_in_words(example), ForwardCall())
            record = replace(again(placed), name="forward")
            self._keep(placed, Done(record=record, call=ForwardCall(), again=again))

    def _run_short(self, placed: Dispatched, short: ShortCall, example: ExampleInputs) -> None:
        try:
            forms = list(short.inputs(example))
            tried = [self._short_done(placed, short, inputs) for inputs in forms[:1]]
            for inputs in forms[1:]:
                if not raised(tried[-1].record):
                    break
                tried.append(self._short_done(placed, short, inputs))
        except TooManyOps as error:
            name = IN_WORDS[short.way]
            self.missed.append(MissedRun(name=name, reason=str(error), is_refused=True))
        else:
            done = tried[-1] if not raised(tried[-1].record) else tried[0]
            self._keep(placed, done)

    def _short_done(self, placed: Dispatched, short: ShortCall, inputs: ExampleInputs) -> Done:
        kwargs = short.call.takes(self.split.model, inputs.kwargs)
        again = partial(self._call, kwargs, inputs_in_words(inputs), short.call)
        record = replace(again(placed), name=IN_WORDS[short.way], is_short=True)
        return Done(record=record, call=short.call, again=again, way=short.way)

    def _call(
        self,
        kwargs: Mapping[str, Any],
        words: str,
        call: ModelCall,
        placed: Dispatched,
        **more: Any,
    ) -> RunRecord:
        options = {"fold": self.fold, "limit_ops": MOST_OPS, **more}
        return placed.run(kwargs, described=words, call=call, **options)


def _missing_steps(model: Any, done: Done) -> list[MissedRun]:
    """Steps of ``generate`` that were asked for and did not run, though nothing raised."""
    record = done.record
    if record.entered:
        return [MissedRun(name=done.call.name, reason=record.entered)]
    if record.error is not None:
        return []
    missing = [step for step in steps_asked_for(model, done.call) if step not in record.phases]
    name = record.name or done.call.name
    return [
        MissedRun(name=f"{', '.join(missing)} of {name}", reason="it ended before that step")
    ] * bool(missing)


# A call that raised without a mismatch is made again before the map is blamed: with other made-up
# values at the lines that made some up, since one of them may have decided, and on one GPU, since a
# class that raises there too raises with every map.


MOST_OTHER_WAYS = 6
"""Lines with made-up values that are tried the other way, the last first."""


@dataclass(kw_only=True)
class Done:
    """A call that was made."""

    record: RunRecord
    call: ModelCall
    again: Callable[..., RunRecord]
    """Makes it again, on a `Dispatched` model and with a few tokens."""
    way: str = ""
    """Which short call it was; empty: the one at the workload."""


def raised(record: RunRecord) -> bool:
    """Whether the model's code raised, and no mismatch may be the reason."""
    return _stopped(record) and not record.mismatches


def _stopped(record: RunRecord) -> bool:
    return record.error is not None and record.error.phase != DISPATCH


def _raises(placed: Dispatched, done: Done) -> bool:
    try:
        error = done.again(placed).error
    except TooManyOps:
        return False
    return error is not None and error.type == done.record.error.type


def other_way(placed: Dispatched, done: Done) -> RunRecord | None:
    """The run with another made-up value at one line, where the code does not raise then."""
    for line in _lines_made_up(done.record):
        try:
            record = done.again(placed, raised_at=frozenset((line,)))
        except TooManyOps:
            continue
        if record.error is None or record.mismatches:
            note = f"with the usual value made up at {line} the code raises; another was taken"
            return replace(record, name=done.record.name, notes=(*record.notes, note))
    return None


def _lines_made_up(record: RunRecord) -> Iterator[str]:
    lines = [str(value.source) for value in record.made_up if value.source is not None]
    yield from list(dict.fromkeys(reversed(lines)))[:MOST_OTHER_WAYS]


def ask_one_gpu(split: SplitModel, done: Sequence[Done]) -> tuple[list[Done], list[Done]]:
    """Find out which calls that raised raise on one GPU too.

    Returns
    -------
    tuple
        The calls, with the answer in the record of each that raised; short calls that raise there
        too, and showed no mismatch before, are apart: the class does not take them.
    """
    asked = [each for each in done if _stopped(each.record)]
    if not asked:
        return list(done), []
    with dispatched(replace(split, device_map={"": split.main_device})) as placed:
        for each in asked:
            if _raises(placed, each):
                error = replace(each.record.error, raised_whole=True)
                each.record = replace(each.record, error=error)
    refused = [
        each
        for each in asked
        if each.way and each.record.error.raised_whole and not each.record.mismatches
    ]
    return [each for each in done if each not in refused], refused


def refusal(model: nn.Module, done: Done) -> MissedRun:
    """A short call that the class does not take."""
    error = done.record.error
    reason = f"{type(model).__name__} raises {error.type}: {error.message}"
    return MissedRun(name=IN_WORDS[done.way], reason=reason, is_refused=True)


def text_tokens(workload: Workload) -> int:
    """Tokens of the prompt: the context less what is generated."""
    return max(workload.tokens - DECODE_STEPS - 1, FEW_TOKENS)


def request_of(context: CheckContext, options: RunOptions) -> InputRequest:
    """What the inputs of the call at the workload contain."""
    if options.request is not None:
        return options.request
    workload = context.workload
    images = workload.images if options.images is None else options.images
    workload = replace(
        workload,
        images=images,
        image_size=options.image_size or workload.image_size,
        frames=options.frames or workload.frames,
        tiling=options.tiling or workload.tiling,
    )
    is_pipeline = bool(context.skeleton.components)
    tokens = workload.tokens if is_pipeline else text_tokens(workload)
    return request_for(workload, tokens)


def cannot_run(context: CheckContext) -> str:
    """Why a map cannot be applied at all; empty where it can."""
    if not context.skeleton.executable:
        return "the model's own code is not available"
    tensors = context.structure.tensors.values()
    # [saved] what is no part of the state dict accelerate does not ask for.
    refused = [t.name for t in tensors if t.persistent and context.device_of(t.name) is None]
    if refused and not context.is_unhooked:
        return (
            f"accelerate refuses the map, as {len(refused)} tensors are in no entry, {refused[0]} "
            "among them"
        )
    unread = [entry.key for entry in context.map.entries if entry.device is None]
    if unread:
        return f"the device of {unread[0]!r} cannot be read"
    strange = [d for d in context.devices if not d.startswith("cuda:") and d not in OFFLOAD_DEVICES]
    if strange:
        return f"only CUDA devices, cpu and disk are run virtually, and the map names {strange[0]}"
    return ""


def inputs_for(
    context: CheckContext, options: RunOptions, request: InputRequest | None = None
) -> ExampleInputs:
    """The inputs of a call: the user's, or made as `request` says (None: for the workload).

    Raises
    ------
    NoExampleInputs
        When an argument that the model requires cannot be made.
    """
    skeleton, source = context.skeleton, context.source
    if options.inputs is not None:
        return user_inputs(options.inputs, skeleton.model, skeleton.config)
    request = request or request_of(context, options)
    is_folder = source.origin == "folder" and source.location
    folder = Path(source.location) if is_folder else None
    example = example_inputs(skeleton.model, skeleton.config, request, folder=folder)
    refuse_images_not_taken(example, request)
    return example


def inputs_in_words(inputs: ExampleInputs) -> str:
    """The inputs in words, for the record of a run."""
    shapes = [
        f"{name} {list(value.shape)}"
        for name, value in inputs.kwargs.items()
        if hasattr(value, "shape") and name in ("input_ids", "pixel_values", "input_features")
    ]
    content = " and ".join(inputs.modalities) or "values of the user's function"
    return f"{content} ({', '.join(shapes)})" if shapes else content


def virtual_cards(context: CheckContext) -> tuple[VirtualCard, ...]:
    """The virtual machine by CUDA index: as the machine says, with a default for cards unknown."""
    named = {card.device: card for card in context.machine.cards} if context.machine else {}
    used = (*context.devices, context.main_device, *named)
    indices = [int(device.partition(":")[2]) for device in used if device.startswith("cuda:")]
    return tuple(
        VirtualCard(name=named[device].name, total_bytes=named[device].capacity_bytes)
        if (device := f"cuda:{index}") in named
        else VirtualCard()
        for index in range(max(indices, default=0) + 1)
    )
