"""One call of a split model: wraps its blocks, follows its phases, folds identical layers.

Folding: of identical layers on one device, called with inputs that cannot be told apart, one is
run.  For the others its events are counted again, its temporary bytes are held against the peak,
and what it kept, its cache, is added as phantom bytes.  A layer for which the cache has no place
yet is run once more: a cache that was made for too few layers does not grow, and the model fails.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.core import DevicePeak, DevplanError, ModelError, RunRecord, is_inside, prefixes
from devplan.models import BlockSite
from devplan.virtual import folding, repeating, source_lines
from devplan.virtual.activations import ActivationMeter, beyond, given_bytes
from devplan.virtual.caches import cache_bytes
from devplan.virtual.calls import ModelCall, PipelineCall
from devplan.virtual.entries import entered_part
from devplan.virtual.function_mode import Answers, default_on_cpu
from devplan.virtual.judging import SplitExecution
from devplan.virtual.known_shapes import KnownShapes
from devplan.virtual.labels import label_of, mark
from devplan.virtual.layer_state import StateCopy, lists_ending_at
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.peaks import device_peaks
from devplan.virtual.phases import follow_calls, follow_components
from devplan.virtual.recording import Recorder
from devplan.virtual.repeating import RanCall
from devplan.virtual.synthetic import Choice

if TYPE_CHECKING:
    from devplan.virtual.split import SplitModel


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
        hook = getattr(module, "_hf_hook", None)
        if name and any(
            getattr(h, "io_same_device", False) for h in getattr(hook, "hooks", [hook])
        ):
            yield name
