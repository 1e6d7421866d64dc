"""A virtual run of a model that is split over several devices, with everything that it showed.

Label every tensor as the map says, let accelerate attach its hooks (`dispatched`), then for each
call (`Dispatched.run`) wrap the blocks and run ``forward``, ``generate`` or what the user asks;
undo all of it.  An op that PyTorch would refuse is recorded and the run goes on as if a person had
moved the odd operand.  Attaching the hooks takes longer than a short call: who has several calls of
one map makes them on one `Dispatched`.
"""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core import (
    DISPATCH,
    DevicePeak,
    DevplanError,
    ModelError,
    RunRecord,
    is_inside,
    prefixes,
)
from devplan.models import BlockSite
from devplan.virtual import folding, source_lines
from devplan.virtual.calls import (
    ForwardCall,
    GenerateCall,
    ModelCall,
    PartCall,
    PipelineCall,
    can_generate,
    entered_part,
    follow_calls,
    follow_components,
    has_forward,
    stop_tokens,
)
from devplan.virtual.folding import RanCall, kinds_with_repeats, layer_kinds
from devplan.virtual.function_mode import Answers, default_on_cpu
from devplan.virtual.hooks import brings_output_back
from devplan.virtual.judging import SplitExecution
from devplan.virtual.labels import label_of, mark
from devplan.virtual.layer_state import StateCopy, lists_ending_at
from devplan.virtual.limited import MOST_OPS
from devplan.virtual.memory import (
    ActivationMeter,
    MemoryMeter,
    beyond,
    cache_bytes,
    device_peaks,
    given_bytes,
)
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


def run_split(split: SplitModel, inputs: Mapping[str, Any], **options: Any) -> RunRecord:
    """Run a split model once and say what happened; parameters as for `Dispatched.run`."""
    with dispatched(split) as model:
        return model.run(inputs, **options)


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
        undo.enter_context(quiet())
        uncovered = label_by_map(split.model, split.device_map)
        recorder = Recorder(split.model)
        error = _attach_hooks(split, recorder)
        yield Dispatched(split, recorder, uncovered, error)


def _attach_hooks(split: SplitModel, recorder: Recorder) -> ModelError | None:
    execution = SplitExecution(recorder.anew(), MemoryMeter())
    try:
        with default_on_cpu(), Answers(execution), execution:
            attach_hooks(split.model, split.device_map, split.main_device)
    except Exception as error:  # accelerate refuses the map
        return source_lines.model_error(error, DISPATCH)
    return None


class Dispatched:
    """A model with accelerate's hooks: ready to be called, any number of times."""

    def __init__(
        self,
        split: SplitModel,
        recorder: Recorder,
        uncovered: tuple[str, ...],
        error: ModelError | None,
    ) -> None:
        self.split = split
        self._recorder = recorder
        self._uncovered = uncovered
        self._error = error
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
        fold: bool = True,
        limit_ops: float = MOST_OPS,
        raised_at: frozenset[str] = frozenset(),
        on_output: Callable[[Any], None] = lambda output: None,
    ) -> RunRecord:
        """Call the model, as it is before any call, and say what happened.

        Parameters
        ----------
        inputs
            Keyword arguments; integer tensors real, float tensors meta.
        described
            The inputs in words, for the record.
        call
            How it is run.
        fold
            Whether identical layers are run once.
        limit_ops
            Ops that the run may take.
        raised_at
            Lines of code where values are made up otherwise (`devplan.virtual.synthetic.Choice`).
        on_output
            Called with what the model gave, when it gave something; labels are still on it.

        Raises
        ------
        TooManyOps
            When it takes more.
        """
        if self._unused is None:
            self._unused = ModelSnapshot(self.split.model)
        else:
            self._unused.restore()
        ends = stop_tokens(self.split.model, getattr(call, "arguments", {}))
        choice = Choice(stop_tokens=ends, raised_at=raised_at)
        run = SplitRun(
            self.split,
            self._recorder.anew(),
            kinds=self._kinds(call) if fold else {},
            limit_ops=limit_ops,
            choice=choice,
            known=self._known,
        )
        error = self._error or run.execute(inputs, call)
        if error is None:
            on_output(run.output)
        return run.record(described, error, self._notes())

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


# ``generate`` of some classes requires an argument that cannot be made up: a voice of the
# checkpoint, a language to translate to. It raises before any block has run. Then ``forward`` is
# run instead or, where the class has none, the part that ``generate`` begins with, even if a
# later part raised. The record names the call that ran, and modules that it did not reach stay
# unverified.


def run_entering(
    placed: Dispatched, inputs: Mapping[str, Any], *, call: ModelCall, **options: Any
) -> RunRecord:
    """Run a split model with inputs that were made for it, by the first way in that it takes.

    Parameters
    ----------
    placed, options
        The model on its devices, and how it is run (`Dispatched.run`).
    inputs
        All that were made; each call takes what it needs.
    call
        How the model is used.
    """
    model = placed.split.model
    first = placed.run(call.takes(model, inputs), call=call, **options)
    if first.error is None or first.mismatches or (first.executed and has_forward(model)):
        return first
    refused = []
    for other in other_ways_in(model, call):
        record = placed.run(other.takes(model, inputs), call=other, **options)
        if record.executed:
            entered = (
                f"{call.name} of {type(model).__name__} {_raised(first)}; {other.name} was run "
                "instead, and what it does not reach is unverified: give what is missing with "
                "--inputs"
            )
            return replace(record, entered=entered)
        refused.append(f"{other.name} was tried after it and {_raised(record)}")
    return replace(first, notes=(*first.notes, *refused))


def other_ways_in(model: nn.Module, call: ModelCall) -> Iterator[ModelCall]:
    """What is run where ``generate``, with nothing asked for by the user, refuses its inputs."""
    if not isinstance(call, GenerateCall) or call.arguments:
        return
    if has_forward(model):
        yield ForwardCall()
    elif (entered := entered_part(model)) is not None:
        name, part = entered
        if can_generate(part):
            yield PartCall(part=name, call=GenerateCall())
        yield PartCall(part=name, call=ForwardCall())


def _raised(record: RunRecord) -> str:
    if record.error is None:
        return "called no module that holds weights"
    return f"raised {record.error.type}: {' '.join(record.error.message.split())[:160]}"


# Folding: of identical layers on one device, called with inputs that cannot be told apart, one is
# run. For the others its events are counted again, its temporary bytes are compared with the
# peak, and the bytes that it kept, its cache, are added as phantom bytes. A layer for which the
# cache has no place yet is run as well: a cache that was made for too few layers does not grow,
# and the model fails.


class SplitRun:
    """One call of a model that accelerate's hooks are on, and what it showed."""

    def __init__(
        self,
        split: SplitModel,
        recorder: Recorder,
        *,
        kinds: Mapping[str, Hashable],
        limit_ops: float,
        choice: Choice,
        known: KnownShapes,
    ) -> None:
        self.split = split
        self.recorder = recorder
        self.meter = MemoryMeter()
        self.execution = SplitExecution(recorder, self.meter, limit_ops, choice)
        self.execution.known = known
        self.activations = ActivationMeter(self.meter)
        self.kinds = kinds
        """Block -> what it shares with those that may be folded into it; empty: no folding."""
        self.phases: list[str] = []
        self.executed: set[str] = set()
        self.weights: dict[torch.device, int] = {}
        self.caches: dict[str, dict[torch.device, int]] = {}
        """Of each part that keeps one; of a model with a ``forward``, its own."""
        self.known: dict[Any, RanCall] = {}
        self.output: Any = None
        self.numbers = {s.name: 0 for s in split.sites} | folding.layer_numbers(split.sites)
        self.stands_for: dict[str | None, set[str]] = {}
        self.entered = (entered_part(split.model) or ("",))[0]
        self.keeps_cache = True
        """Whether what blocks leave behind is a cache; in a pipeline it is part of a phase."""
        self.grown: set[int] = set()
        """Ids of the lists at whose end a layer was run for real."""

    # ---------------------------------------------------------------------------- the run

    def _count_weights(self) -> None:
        for tensor in (*self.split.model.parameters(), *self.split.model.buffers()):
            device = label_of(tensor)
            if device is not None and device.type != "meta":
                self.meter.count(tensor, device, ("", "load"))
        self.weights = self.meter.now()
        self.activations.start()

    def execute(self, inputs: Mapping[str, Any], call: ModelCall) -> ModelError | None:
        """Call the model; give the exception of its own code that ended the call, if one did."""
        self._count_weights()
        main = torch.device(self.split.main_device)
        placed = {
            name: mark(value, main, None) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        for tensor in placed.values():
            if isinstance(tensor, torch.Tensor):
                self.meter.count(tensor, main, ("", "inputs"))
        self.keeps_cache = not isinstance(call, PipelineCall)
        self._wrap_blocks()
        self._follow_phases(call)
        model = self.split.model
        try:
            with default_on_cpu(), Answers(self.execution), self.execution:
                self.output = self.execution.limit.run(call.run, model, placed)
        except DevplanError:  # a limit of ops, a run in the run: not the model's fault
            raise
        except Exception as error:  # the model's own code: anything can happen
            if source_lines.is_devplans(error):
                raise
            return source_lines.model_error(error, self.recorder.phase)
        finally:
            self.activations.stop(self.recorder.phase)
        if not self.phases:  # only parts of the model were called
            self.phases.append(call.name)
        return None

    def _follow_phases(self, call: ModelCall) -> None:
        """Name the phase at each call of the whole model, or of a component of a pipeline."""
        self.recorder.phase = call.name
        if isinstance(call, PipelineCall):
            follow_components(self.split.model, self._begin_component)
        else:
            follow_calls(self.split.model, call.phases(), self._begin, self._end)

    def _begin(self, phase: str) -> None:
        self.recorder.phase = phase

    def _end(self, part: str, result: Any) -> None:
        if self.recorder.phase not in self.phases:
            self.phases.append(self.recorder.phase)
        self.caches[part] = cache_bytes(result, self.stands_for)

    def _begin_component(self, phase: str) -> None:
        self.activations.turn(self.recorder.phase)
        self.recorder.phase = phase
        if phase not in self.phases:
            self.phases.append(phase)

    # ---------------------------------------------------------------------------- folding

    def _wrap_blocks(self) -> None:
        for site in self.split.sites:
            if site.module is not None:
                self._wrap(site, self.kinds.get(site.name))

    def _wrap(self, site: BlockSite, signature: Any) -> None:
        original = site.module.forward

        @functools.wraps(original)
        def forward(*args, **kwargs):
            self.executed.add(site.name)
            if self.phases[:1] in ([], [self.recorder.phase]):
                self.recorder.took(site.name, (args, kwargs))
            key = None
            if signature is not None:
                key = (signature, self.recorder.phase, folding.call_signature(args, kwargs))
                call = self.known.get(key)
                if call is not None and not self._may_fail(call, site, args, kwargs):
                    return self._repeat(call, site, args, kwargs)
            return self._call(original, site, key, args, kwargs)

        site.module.forward = forward

    def _call(self, original, site: BlockSite, key: Any, args: tuple, kwargs: dict) -> Any:
        execution, meter, phase = self.execution, self.meter, self.recorder.phase
        outer, execution.block = execution.block, site.name
        self.activations.enter(phase)
        before, events = meter.now(), self.recorder.mark()
        peaks, highest, kept = meter.start_peaks(), {}, {}
        lists = folding.lists_among(args, kwargs)
        try:
            result = original(*args, **kwargs)
            given = given_bytes(result, site.name)
            kept = beyond(before, meter.now(), given)
            for device in given:
                self.recorder.gave(site.name, device)
        finally:
            execution.block = outer
            highest = meter.end_peaks(peaks)
            self.activations.leave(site.name, phase, highest, self._cached(site.name, kept))
        stands = key is not None and folding.are_as_before(lists)
        outcome = folding.remember(result, args, kwargs, site.name) if stands else None
        if key is not None and folding.may_stand(outcome, key[0]):
            self.known[key] = RanCall(
                outcome=outcome,
                events=self.recorder.events_since(events),
                kept_bytes=beyond(before, meter.now(), folding.result_bytes(outcome)),
                peak_bytes=beyond(before, highest),
            )
        return result

    def _may_fail(self, call: RanCall, site: BlockSite, args: tuple, kwargs: dict) -> bool:
        """Whether the layer comes to the end of a list, as its cache, that was not seen to grow."""
        source, target = self.numbers[call.outcome.maker], self.numbers[site.name]
        ended = lists_ending_at(target, source, (*args, *kwargs.values()))
        unseen = ended - self.grown
        self.grown |= ended
        return bool(unseen)

    def _repeat(self, call: RanCall, site: BlockSite, args: tuple, kwargs: dict) -> Any:
        self.stands_for.setdefault(call.outcome.maker, set()).add(site.name)
        self.recorder.repeat(call.events, call.outcome.maker, site.name)
        place = (site.name, self.recorder.phase)
        self.activations.enter(self.recorder.phase)
        now = self.meter.now()
        highest = {device: now.get(device, 0) + high for device, high in call.peak_bytes.items()}
        for device, num_bytes in call.peak_bytes.items():
            self.meter.touch(device, num_bytes, place)
        filled_bytes = self._fill_state(call.outcome.maker, site.name, args, kwargs)
        for device, num_bytes in call.kept_bytes.items():
            self.meter.add_phantom(device, num_bytes - filled_bytes.get(device, 0), place)
        result = folding.repeat(call.outcome, args, kwargs, site.name)
        outer, self.execution.block = self.execution.block, site.name
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self.execution.made(tensor)
        self.execution.block = outer
        for device in given_bytes(result, site.name):
            self.recorder.gave(site.name, device)
        kept = self._cached(site.name, call.kept_bytes)
        self.activations.leave(site.name, self.recorder.phase, highest, kept)
        return result

    def _cached(self, block: str, kept: Mapping[torch.device, int]) -> Mapping[torch.device, int]:
        """What a block left behind, where that is a cache which is counted as one."""
        return kept if self.keeps_cache and is_inside(block, self.entered) else {}

    def _fill_state(self, ran: str, name: str, args: tuple, kwargs: dict) -> dict:
        """Put into the cache what a folded layer would have; give the bytes that this added."""
        before = self.meter.now()
        copy = StateCopy(self.numbers[ran], self.numbers[name], ran, name)
        outer, self.execution.block = self.execution.block, name
        for tensor in copy.run((*args, *kwargs.values())):
            self.execution.made(tensor)
        self.execution.block = outer
        return {device: now - before.get(device, 0) for device, now in self.meter.now().items()}

    # ---------------------------------------------------------------------------- results

    def record(self, inputs: str, error: ModelError | None, notes: tuple[str, ...]) -> RunRecord:
        """What the call showed."""
        recorder, execution = self.recorder, self.execution
        return RunRecord(
            phases=tuple(self.phases),
            inputs=inputs,
            mismatches=tuple(recorder.mismatches.values()),
            transfers=tuple(recorder.transfers.values()),
            entering=recorder.block_inputs(),
            brought_back=tuple(_brought_back(self.split.model)),
            peaks=self.peaks(),
            activations=self.activations.found(),
            executed=frozenset(self.executed),
            used=self._used_alone(),
            made_up=recorder.made_up_values(),
            assumed_ops=tuple(sorted(recorder.assumed)),
            guessed_ops=tuple(sorted(execution.guess.guessed)),
            error=error,
            num_ops=execution.num_ops,
            notes=notes,
        )

    def _used_alone(self) -> frozenset[str]:
        """Weights that ops took though no block ran that holds them."""
        ran = self.executed
        return frozenset(name for name in self.recorder.used if ran.isdisjoint(prefixes(name)))

    def peaks(self) -> tuple[DevicePeak, ...]:
        cache = sum(map(Counter, self.caches.values()), Counter())
        return device_peaks(self.meter, self.weights, cache)


def _brought_back(model: nn.Module) -> Iterator[str]:
    """Names of modules with a hook that brings the output back; the model itself is left out."""
    for name, module in model.named_modules():
        if name and brings_output_back(module):
            yield name
