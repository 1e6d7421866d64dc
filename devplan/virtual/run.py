"""A virtual run: a model on virtual devices, called one or more times, and what the calls showed.

Label every tensor as the map says and let accelerate attach its hooks (`dispatched`); then, for
each call (`Dispatched.follow`, `Dispatched.run`), wrap the blocks and run ``forward``, ``generate``
or what the user asks; undo all of it.  A map of one device is the run from which a model is
profiled.  What a call shows is noted by observers (`devplan.virtual.observing`): the events for
findings (`Recorder`), the memory (`RunMemory`), the order and the cache of blocks (`Trace`).

An op that PyTorch would refuse is recorded and the run goes on as if a person had moved the odd
operand.  Placing a model takes longer than a short call: who has several calls of one map makes
them on one `Dispatched`.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core import DISPATCH, DevplanError, ModelError, RunRecord, prefixes
from devplan.models import BlockSite
from devplan.virtual import folding, source_lines
from devplan.virtual.calls import (
    ModelCall,
    PipelineCall,
    follow_calls,
    follow_components,
    stop_tokens,
)
from devplan.virtual.folding import Outcome, RanCall, kinds_with_repeats, layer_kinds
from devplan.virtual.function_mode import Answers, default_on_cpu
from devplan.virtual.hooks import brings_output_back
from devplan.virtual.judging import SplitExecution
from devplan.virtual.labels import mark
from devplan.virtual.layer_state import StateCopy, lists_ending_at
from devplan.virtual.limited import MOST_OPS
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.metering import RunMemory
from devplan.virtual.observing import Observer
from devplan.virtual.patches import (
    ModelSnapshot,
    VirtualCard,
    past_the_modes,
    quiet,
    restored,
    virtual_machine,
)
from devplan.virtual.placing import attach_hooks, label_by_map
from devplan.virtual.recording import Recorder
from devplan.virtual.shapes import KnownShapes
from devplan.virtual.synthetic import Choice

ONE_CARD = "cuda:0"
"""The device of a model that is profiled."""


@dataclass(frozen=True, kw_only=True)
class SplitModel:
    """A model, its blocks, and where they are to lie."""

    model: nn.Module
    config: Any
    sites: tuple[BlockSite, ...]
    device_map: Mapping[str, str]
    main_device: str
    cards: tuple[VirtualCard, ...]
    """By CUDA index; as many as the highest index of the map asks for."""


def on_one_card(model: nn.Module, config: Any, sites: tuple[BlockSite, ...]) -> SplitModel:
    """A model that lies on one card, as it is profiled."""
    return SplitModel(
        model=model,
        config=config,
        sites=sites,
        device_map={"": ONE_CARD},
        main_device=ONE_CARD,
        cards=(VirtualCard(),),
    )


@contextlib.contextmanager
def dispatched(split: SplitModel) -> Iterator[Dispatched]:
    """A model on its virtual devices with accelerate's hooks; left as it was at the end.

    Parameters
    ----------
    split
        The model on the meta device and its map.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(virtual_machine(split.model, split.cards))
        undo.enter_context(restored(split.model))
        undo.enter_context(past_the_modes())
        uncovered = label_by_map(split.model, split.device_map)
        recorder = Recorder(split.model)
        error = _attach_hooks(split, recorder)
        yield Dispatched(split, recorder, uncovered, error)


def _attach_hooks(split: SplitModel, recorder: Recorder) -> Exception | None:
    execution = SplitExecution(recorder.anew(), MemoryMeter())
    try:
        with quiet(), default_on_cpu(), Answers(execution), execution:
            attach_hooks(split.model, split.device_map, split.main_device)
    except Exception as error:  # accelerate refuses the map
        return error
    return None


class Dispatched:
    """A model with accelerate's hooks: ready to be called, any number of times."""

    def __init__(
        self,
        split: SplitModel,
        recorder: Recorder,
        uncovered: tuple[str, ...],
        error: Exception | None,
    ) -> None:
        self.split = split
        self._recorder = recorder
        self._uncovered = uncovered
        self._error = error
        """Why accelerate attached no hooks."""
        self._unused: ModelSnapshot | None = None
        """The model as it was before its first call."""
        self._known = KnownShapes()
        self._kinds_by_use: dict[bool, Mapping[str, Hashable]] = {}

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        described: str,
        call: ModelCall,
        on_output: Callable[[Any], None] = lambda output: None,
        **options: Any,
    ) -> RunRecord:
        """Call the model, as it is before any call, and say what happened.

        Parameters
        ----------
        inputs, call, options
            As for `follow`.
        described
            The inputs in words, for the record.
        on_output
            Called with what the model gave, when it gave something; labels are still on it.

        Raises
        ------
        TooManyOps
            When it takes more ops than it may.
        """
        run = self._begun(call, fills_cache=True, **options)
        if self._error is not None:
            error = source_lines.model_error(self._error, DISPATCH)
        else:
            error = _error_of(run, inputs)
        if error is None:
            on_output(run.output)
        return _record(run, described, error, self._notes())

    def follow(self, inputs: Mapping[str, Any], *, call: ModelCall, **options: Any) -> Run:
        """Call the model, as it is before any call, and tell observers what happens.

        The cache holds what layers left there that were run; folded ones leave nothing.

        Parameters
        ----------
        inputs
            Keyword arguments; integer tensors real, float tensors meta.
        call
            How it is run.
        options
            ``observers``: who is told, beside those of every run.  ``fold``: whether identical
            layers are run once.  ``preset``: blocks that are not run, with what they give.
            ``limit_ops``, ``block_limits``: ops that the run, and one call of each block, may take.
            ``raised_at``: lines of code where values are made up otherwise
            (`devplan.virtual.synthetic.Choice`).

        Raises
        ------
        TooManyOps
            When it takes more ops than it may.
        Exception
            What accelerate, an observer or the model's own code raises.
        """
        run = self._begun(call, fills_cache=False, **options)
        if self._error is not None:
            raise self._error
        run.execute(inputs)
        return run

    def _begun(
        self,
        call: ModelCall,
        *,
        fills_cache: bool,
        observers: Iterable[Observer] = (),
        fold: bool = True,
        preset: Mapping[str, Outcome] = MappingProxyType({}),
        limit_ops: float = MOST_OPS,
        block_limits: Mapping[str, int] = MappingProxyType({}),
        raised_at: frozenset[str] = frozenset(),
    ) -> Run:
        if self._unused is None:
            self._unused = ModelSnapshot(self.split.model)
        else:
            self._unused.restore()
        ends = stop_tokens(self.split.model, getattr(call, "arguments", {}))
        return Run(
            self.split,
            call,
            self._recorder.anew(),
            fills_cache=fills_cache,
            observers=observers,
            kinds=self._kinds(call) if fold else {},
            preset=preset,
            limit_ops=limit_ops,
            block_limits=block_limits,
            choice=Choice(stop_tokens=ends, raised_at=raised_at),
            known=self._known,
        )

    def _kinds(self, call: ModelCall) -> Mapping[str, Hashable]:
        """What may be folded; in a pipeline, which keeps no cache, also calls of one block."""
        repeats = isinstance(call, PipelineCall)
        if repeats not in self._kinds_by_use:
            kinds = kinds_with_repeats if repeats else layer_kinds
            self._kinds_by_use[repeats] = kinds(self.split.sites, self.split.config)
        return self._kinds_by_use[repeats]

    def _notes(self) -> tuple[str, ...]:
        names = self._uncovered
        return (f"{len(names)} tensors are in no entry: {names[0]} ...",) if names else ()


def run_split(split: SplitModel, inputs: Mapping[str, Any], **options: Any) -> RunRecord:
    """Run a split model once and say what happened; parameters as for `Dispatched.run`."""
    with dispatched(split) as model:
        return model.run(inputs, **options)


class OneCard:
    """A model on one card: placed when it is first called, and taken off at the end, or by `clear`.

    While it is placed its tensors are labelled and ``torch.cuda`` speaks of a virtual card: what
    is no part of devplan and runs between calls, such as a user's function, needs `clear` before.
    """

    def __init__(self, model: nn.Module, config: Any, sites: tuple[BlockSite, ...]) -> None:
        self.model = model
        self._split = on_one_card(model, config, sites)
        self._placed: Dispatched | None = None
        self._undo = contextlib.ExitStack()

    @property
    def placed(self) -> Dispatched:
        """The model, ready to be called."""
        if self._placed is None:
            self._placed = self._undo.enter_context(dispatched(self._split))
        return self._placed

    def clear(self) -> None:
        """Leave the model as it was before it was placed; the next call places it again."""
        self._placed = None
        self._undo.close()

    def __enter__(self) -> OneCard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.clear()


# Folding: of identical layers on one device, called with inputs that cannot be told apart, one is
# run, and observers note for the others what it did. A layer for which the cache has no place yet
# is run as well: a cache that was made for too few layers does not grow, and the model fails.


class Run:
    """One call of a model on its devices.

    Attributes
    ----------
    phase : str
        What runs now: ``prefill``, ``decode 1``, ...; before the first phase the call's name.
    phases : list of str
        Those that came to their end; in a pipeline, those that began.
    executed : set of str
        Blocks that were called.
    stands_for : dict
        Block that was run -> those that were folded into it.
    output : Any
        What the model gave.
    """

    def __init__(
        self,
        split: SplitModel,
        call: ModelCall,
        recorder: Recorder,
        *,
        fills_cache: bool,
        observers: Iterable[Observer],
        kinds: Mapping[str, Hashable],
        preset: Mapping[str, Outcome],
        limit_ops: float,
        block_limits: Mapping[str, int],
        choice: Choice,
        known: KnownShapes,
    ) -> None:
        self.split = split
        self.call = call
        self.recorder = recorder
        self.memory = RunMemory()
        self.observers: tuple[Observer, ...] = (recorder, self.memory, *observers)
        self.execution = SplitExecution(recorder, self.memory.meter, limit_ops, choice)
        self.execution.known = known
        self.phase = call.name
        self.phases: list[str] = []
        self.executed: set[str] = set()
        self.stands_for: dict[str, list[str]] = {}
        self.inputs: dict[str, Any] = {}
        self.output: Any = None
        self._kinds = kinds
        """Block -> what it shares with those that may be folded into it; empty: no folding."""
        self._fills_cache = fills_cache
        """Whether a folded layer leaves stand-ins in the cache: later phases ask for them."""
        self._preset = preset
        self._block_limits = block_limits
        self._ran: dict[Any, RanCall] = {}
        self._numbers = {s.name: 0 for s in split.sites} | folding.layer_numbers(split.sites)
        self._grown: set[int] = set()
        """Ids of the lists at whose end a layer was run for real."""

    @property
    def is_in_first_phase(self) -> bool:
        return self.phases[:1] in ([], [self.phase])

    def execute(self, inputs: Mapping[str, Any]) -> None:
        """Call the model with these arguments; what its code raises is raised here."""
        main = torch.device(self.split.main_device)
        self.inputs = {
            name: mark(value, main, None) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        is_complete = False
        for observer in self.observers:
            observer.begin(self)
        self._wrap_blocks()
        self._follow_phases()
        try:
            with quiet(), default_on_cpu(), Answers(self.execution), self.execution:
                limited = self.execution.limit.run
                self.output = limited(self.call.run, self.split.model, self.inputs)
            is_complete = True
        finally:
            for observer in self.observers:
                observer.end(is_complete)
        if not self.phases:  # only parts of the model were called
            self.phases.append(self.call.name)

    # ------------------------------------------------------------------------------ phases

    def _follow_phases(self) -> None:
        """Name the phase at each call of the whole model, or of a component of a pipeline."""
        if isinstance(self.call, PipelineCall):
            follow_components(self.split.model, self._begin_component)
        else:
            follow_calls(self.split.model, self.call.phases(), self._turn, self._end)

    def _turn(self, phase: str) -> None:
        for observer in self.observers:
            observer.turn(phase)
        self.phase = phase

    def _end(self, part: str, result: Any) -> None:
        if self.phase not in self.phases:
            self.phases.append(self.phase)
        for observer in self.observers:
            observer.gave(part, result)

    def _begin_component(self, phase: str) -> None:
        self._turn(phase)
        if phase not in self.phases:
            self.phases.append(phase)

    # ------------------------------------------------------------------------------ blocks

    def _wrap_blocks(self) -> None:
        for site in self.split.sites:
            if site.module is not None:
                self._wrap(site)

    def _wrap(self, site: BlockSite) -> None:
        original = site.module.forward

        @functools.wraps(original)
        def forward(*args, **kwargs):
            return self._called(site.name, original, args, kwargs)

        site.module.forward = forward

    def _called(self, block: str, original: Callable, args: tuple, kwargs: dict) -> Any:
        self.executed.add(block)
        for observer in self.observers:
            observer.enter(block, args, kwargs)
        if (given := self._preset.get(block)) is not None:
            return folding.repeat(given, args, kwargs, block)
        key = None
        if (kind := self._kinds.get(block)) is not None:
            key = (kind, self.phase, folding.call_signature(args, kwargs))
            ran = self._ran.get(key)
            if ran is not None and not self._has_to_run(ran, block, args, kwargs):
                return self._repeat(ran, block, args, kwargs)
        return self._call(block, original, key, args, kwargs)

    def _call(self, block: str, original: Callable, key: Any, args: tuple, kwargs: dict) -> Any:
        lists = folding.lists_among(args, kwargs)
        for observer in self.observers:
            observer.start(block)
        try:
            with self._limited(block):
                result = original(*args, **kwargs)
        except BaseException:
            for observer in self.observers:
                observer.abandon(block)
            raise
        is_repeatable = folding.are_as_before(lists)
        outcome = folding.remember(result, args, kwargs, block) if is_repeatable else None
        noted = tuple(observer.finish(block, result, outcome) for observer in self.observers)
        if key is not None and folding.may_stand(outcome, key[0]):
            self._ran[key] = RanCall(outcome=outcome, noted=noted)
        return result

    @contextlib.contextmanager
    def _limited(self, block: str) -> Iterator[None]:
        """Ops belong to the block, and may be as many as it may take."""
        execution = self.execution
        outer = execution.block, execution.limit_ops
        allowed = execution.num_ops + self._block_limits.get(block, math.inf)
        execution.block, execution.limit_ops = block, min(allowed, execution.limit_ops)
        try:
            yield
        finally:
            execution.block, execution.limit_ops = outer

    # ----------------------------------------------------------------------------- folding

    def _has_to_run(self, ran: RanCall, block: str, args: tuple, kwargs: dict) -> bool:
        """Whether the layer comes to the end of a list, as its cache, that was not seen to grow."""
        if not self._fills_cache:
            return False
        source, target = self._numbers[ran.outcome.maker], self._numbers[block]
        ended = lists_ending_at(target, source, (*args, *kwargs.values()))
        unseen = ended - self._grown
        self._grown |= ended
        return bool(unseen)

    def _repeat(self, ran: RanCall, block: str, args: tuple, kwargs: dict) -> Any:
        maker = ran.outcome.maker
        folded = self.stands_for.setdefault(maker, [])
        if block not in folded:  # a layer may be called more than once
            folded.append(block)
        told = tuple(zip(self.observers, ran.noted, strict=True))
        for observer, noted in told:
            observer.repeat(block, maker, noted)
        if self._fills_cache:
            copy = StateCopy(self._numbers[maker], self._numbers[block], maker, block)
            self._made(block, copy.run((*args, *kwargs.values())))
        for observer, noted in told:
            observer.filled(block, noted)
        result = folding.repeat(ran.outcome, args, kwargs, block)
        self._made(block, tree_leaves(result))
        for observer, noted in told:
            observer.repeated(block, result, noted)
        return result

    def _made(self, block: str, values: Iterable[Any]) -> None:
        """What a folded block makes, as if its ops had made it."""
        outer, self.execution.block = self.execution.block, block
        for value in values:
            if isinstance(value, torch.Tensor):
                self.execution.made(value)
        self.execution.block = outer


def _error_of(run: Run, inputs: Mapping[str, Any]) -> ModelError | None:
    """Make the call; the exception of the model's own code that ended it, if one did."""
    try:
        run.execute(inputs)
    except DevplanError:  # a limit of ops, a run in the run: not the model's fault
        raise
    except Exception as error:  # the model's own code: anything can happen
        if source_lines.is_devplans(error):
            raise
        return source_lines.model_error(error, run.phase)
    return None


def _record(run: Run, inputs: str, error: ModelError | None, notes: tuple[str, ...]) -> RunRecord:
    """What a call showed."""
    recorder, execution = run.recorder, run.execution
    return RunRecord(
        phases=tuple(run.phases),
        inputs=inputs,
        mismatches=tuple(recorder.mismatches.values()),
        transfers=tuple(recorder.transfers.values()),
        entering=recorder.block_inputs(),
        brought_back=tuple(_brought_back(run.split.model)),
        peaks=run.memory.peaks(),
        activations=run.memory.activations.found(),
        executed=frozenset(run.executed),
        used=frozenset(n for n in recorder.used if run.executed.isdisjoint(prefixes(n))),
        made_up=recorder.made_up_values(),
        assumed_ops=tuple(sorted(recorder.assumed)),
        guessed_ops=tuple(sorted(execution.guess.guessed)),
        error=error,
        num_ops=execution.num_ops,
        notes=notes,
    )


def _brought_back(model: nn.Module) -> Iterator[str]:
    """Names of modules with a hook that brings the output back; the model itself is left out."""
    for name, module in model.named_modules():
        if name and brings_output_back(module):
            yield name
