"""The memory of one run: what lies on each device at its fullest moment, and what for.

Of a folded layer the temporary bytes are compared with the peak, and the bytes that it kept, its
cache, are added as phantom bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from devplan.core import DevicePeak, is_inside
from devplan.virtual.calls import PipelineCall, entered_part
from devplan.virtual.folding import Outcome, result_bytes
from devplan.virtual.labels import label_of
from devplan.virtual.memory import (
    ActivationMeter,
    Bytes,
    MemoryMeter,
    beyond,
    cache_bytes,
    device_peaks,
    given_bytes,
)
from devplan.virtual.observing import Observer

if TYPE_CHECKING:
    from devplan.virtual.run import Run


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """A block whose code runs: what lived before it, and the peaks until then."""

    phase: str
    before: Bytes
    peaks: Any


@dataclass(frozen=True, kw_only=True)
class _Used:
    """What the call of a block did to the memory."""

    kept_bytes: Bytes
    """Bytes that lived on after the call, its result aside."""
    peak_bytes: Bytes
    """Bytes at the fullest moment of the call beyond those before it."""


class RunMemory(Observer):
    """Measures a run; the execution mode counts every tensor that is made with its `meter`."""

    def __init__(self) -> None:
        self.meter = MemoryMeter()
        self.activations = ActivationMeter(self.meter)
        self.weights: Bytes = {}
        self.caches: dict[str, Bytes] = {}
        """Of each part that keeps one; of a model with a ``forward``, its own."""
        self._begun: list[_Begun] = []
        self._repeated: tuple[Bytes, Bytes] = {}, {}
        """Before a folded block: what lived, and what its fullest moment would have been."""
        self._entered = ""
        self._is_pipeline = False

    def begin(self, run: Run) -> None:
        super().begin(run)
        model = run.split.model
        self._entered = (entered_part(model) or ("",))[0]
        self._is_pipeline = isinstance(run.call, PipelineCall)
        for tensor in (*model.parameters(), *model.buffers()):
            device = label_of(tensor)
            if device is not None and device.type != "meta":
                self.meter.count(tensor, device, ("", "load"))
        self.weights = self.meter.now()
        self.activations.start()
        for tensor in run.inputs.values():
            if isinstance(tensor, torch.Tensor):
                self.meter.count(tensor, label_of(tensor), ("", "inputs"))

    def turn(self, phase: str) -> None:
        if self._is_pipeline:  # what ran between two blocks belongs to the component before
            self.activations.turn(self.run.phase)

    def gave(self, part: str, result: Any) -> None:
        self.caches[part] = cache_bytes(result, self.run.stands_for)

    def start(self, block: str) -> None:
        phase = self.run.phase
        self.activations.enter(phase)
        before = self.meter.now()
        self._begun.append(_Begun(phase=phase, before=before, peaks=self.meter.start_peaks()))

    def finish(self, block: str, result: Any, outcome: Outcome | None) -> _Used | None:
        begun = self._begun.pop()
        now = self.meter.now()
        kept = beyond(begun.before, now, given_bytes(result, block))
        highest = self.meter.end_peaks(begun.peaks)
        self.activations.leave(block, begun.phase, highest, self._cached(block, kept))
        if outcome is None:
            return None
        return _Used(
            kept_bytes=beyond(begun.before, now, result_bytes(outcome)),
            peak_bytes=beyond(begun.before, highest),
        )

    def abandon(self, block: str) -> None:
        begun = self._begun.pop()
        highest = self.meter.end_peaks(begun.peaks)
        self.activations.leave(block, begun.phase, highest, {})

    def repeat(self, block: str, ran: str, noted: _Used) -> None:
        self.activations.enter(self.run.phase)
        now = self.meter.now()
        highest = {device: now.get(device, 0) + high for device, high in noted.peak_bytes.items()}
        for device, num_bytes in noted.peak_bytes.items():
            self.meter.touch(device, num_bytes, (block, self.run.phase))
        self._repeated = now, highest

    def filled(self, block: str, noted: _Used) -> None:
        before, now = self._repeated[0], self.meter.now()
        for device, num_bytes in noted.kept_bytes.items():
            filled_bytes = now.get(device, 0) - before.get(device, 0)
            place = (block, self.run.phase)
            self.meter.add_phantom(device, num_bytes - filled_bytes, place)

    def repeated(self, block: str, result: Any, noted: _Used) -> None:
        kept = self._cached(block, noted.kept_bytes)
        self.activations.leave(block, self.run.phase, self._repeated[1], kept)

    def end(self, is_complete: bool) -> None:
        self.activations.stop(self.run.phase)

    def peaks(self) -> tuple[DevicePeak, ...]:
        """One for every device that something lay on."""
        cache = sum(map(Counter, self.caches.values()), Counter())
        return device_peaks(self.meter, self.weights, cache)

    def _cached(self, block: str, kept: Bytes) -> Mapping[torch.device, int]:
        """What a block left behind, where that is a cache which is counted as one.

        In a pipeline it is part of a phase.
        """
        counts = not self._is_pipeline and is_inside(block, self._entered)
        return kept if counts else {}
