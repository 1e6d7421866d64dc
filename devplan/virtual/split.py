"""A virtual run of a model that is split over several devices, with everything that it showed.

Phases: label every tensor as the map says, let accelerate attach its hooks, wrap the blocks, run
``forward``, ``generate`` or what the user asks, undo all of it.  An op that PyTorch would refuse is
recorded and the run goes on as if a person had moved the odd operand.

Folding: of identical layers on one device, called with inputs that cannot be told apart, one is
run.  For the others its events are counted again, its temporary bytes are held against the peak,
and what it kept, its cache, is added as phantom bytes.  A layer for which the cache has no place
yet is run once more: a cache that was made for too few layers does not grow, and the model fails.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.blocks import BlockSite
from devplan.errors import DevplanError
from devplan.findings import DevicePeak, ModelError, RunRecord
from devplan.names import is_inside
from devplan.virtual import folding, repeating, source_lines
from devplan.virtual.activations import ActivationMeter, beyond, given_bytes
from devplan.virtual.answers import Answers, default_on_cpu
from devplan.virtual.caches import cache_bytes
from devplan.virtual.calls import ModelCall, PipelineCall
from devplan.virtual.cuda import VirtualCard, answering
from devplan.virtual.entries import entered_part
from devplan.virtual.judging import SplitExecution
from devplan.virtual.labels import label_of, mark
from devplan.virtual.layer_state import StateCopy, lists_ending_at
from devplan.virtual.lean import lean
from devplan.virtual.loan import restored
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.peaks import device_peaks
from devplan.virtual.phases import follow_calls, follow_components
from devplan.virtual.placing import attach_hooks, label_by_map, labelled_parameters
from devplan.virtual.quiet import quiet
from devplan.virtual.recording import Recorder
from devplan.virtual.repeating import RanCall


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


def run_split(
    split: SplitModel,
    inputs: Mapping[str, Any],
    *,
    described: str,
    call: ModelCall,
    fold: bool = True,
    limit_ops: float = math.inf,
    on_output: Callable[[Any], None] = lambda output: None,
) -> RunRecord:
    """Run a split model and say what happened.

    Parameters
    ----------
    split
        The model on the meta device and its map; the model is left as it was.
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
    on_output
        Called with what the model gave, when it gave something; labels are still on it.

    Raises
    ------
    TooManyOps
        When it takes more.
    """
    recorder, meter = Recorder(split.model), MemoryMeter()
    execution = SplitExecution(recorder, meter, limit_ops)
    run = _Run(split, execution, recorder, meter, fold)
    with contextlib.ExitStack() as undo:
        undo.enter_context(lean(split.model))
        undo.enter_context(restored(split.model))
        undo.enter_context(torch.no_grad())
        undo.enter_context(answering(split.cards))
        undo.enter_context(labelled_parameters())
        undo.enter_context(quiet())
        uncovered = label_by_map(split.model, split.device_map)
        error = run.attach_hooks() or run.execute(inputs, call)
        if error is None:
            on_output(run.output)
    notes = (f"{len(uncovered)} tensors are in no entry: {uncovered[0]} ...",) if uncovered else ()
    return RunRecord(
        phases=tuple(run.phases),
        inputs=described,
        mismatches=tuple(recorder.mismatches.values()),
        transfers=tuple(recorder.transfers.values()),
        peaks=run.peaks(),
        activations=run.activations.found(),
        executed=frozenset(run.executed),
        made_up=recorder.made_up_values(),
        assumed_ops=tuple(sorted(recorder.assumed)),
        guessed_ops=tuple(sorted(execution.guess.guessed)),
        error=error,
        num_ops=execution.num_ops,
        notes=notes,
    )


class _Run:
    """One run: wraps blocks, follows phases, folds."""

    def __init__(self, split: SplitModel, execution, recorder, meter, fold: bool) -> None:
        self.split = split
        self.execution: SplitExecution = execution
        self.recorder: Recorder = recorder
        self.meter: MemoryMeter = meter
        self.activations = ActivationMeter(meter)
        self.fold = fold
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

    def attach_hooks(self) -> ModelError | None:
        split = self.split
        self.recorder.phase = "dispatch"
        try:
            with default_on_cpu(), Answers(self.execution), self.execution:
                attach_hooks(split.model, split.device_map, split.main_device)
        except Exception as error:  # accelerate refuses the map
            return source_lines.model_error(error, "dispatch")
        self.recorder.forget()
        self.meter.restart()
        self._count_weights()
        return None

    def _count_weights(self) -> None:
        for tensor in (*self.split.model.parameters(), *self.split.model.buffers()):
            device = label_of(tensor)
            if device is not None and device.type != "meta":
                self.meter.count(tensor, device, ("", "load"))
        self.weights = self.meter.now()
        self.activations.start()

    def execute(self, inputs: Mapping[str, Any], call: ModelCall) -> ModelError | None:
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
                self.output = call.run(model, placed)
        except DevplanError:  # the user's time is up, not the model's fault
            raise
        except Exception as error:  # the model's own code: anything can happen
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
        sites, kinds = self.split.sites, folding.layer_kinds
        kinds = kinds if self.keeps_cache else repeating.kinds_with_repeats
        known = kinds(sites, self.split.config) if self.fold else {}
        for site in sites:
            if site.module is not None:
                self._wrap(site, known.get(site.name))

    def _wrap(self, site: BlockSite, signature: Any) -> None:
        original = site.module.forward

        @functools.wraps(original)
        def forward(*args, **kwargs):
            self.executed.add(site.name)
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
        lists = repeating.lists_among(args, kwargs)
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
        stands = key is not None and repeating.are_as_before(lists)
        outcome = folding.remember(result, args, kwargs, site.name) if stands else None
        if key is not None and repeating.may_stand(outcome, key[0]):
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

    def peaks(self) -> tuple[DevicePeak, ...]:
        cache = sum(map(Counter, self.caches.values()), Counter())
        return device_peaks(self.meter, self.weights, cache)
