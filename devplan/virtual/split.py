"""A virtual run of a model that is split over several devices, with everything that it showed.

Label every tensor as the map says, let accelerate attach its hooks (`dispatched`), then for each
call (`Dispatched.run`) wrap the blocks and run ``forward``, ``generate`` or what the user asks;
undo all of it.  An op that PyTorch would refuse is recorded and the run goes on as if a person had
moved the odd operand.  Attaching the hooks takes longer than a short call: who has several calls of
one map makes them on one `Dispatched`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.core import DISPATCH, ModelError, RunRecord
from devplan.models import BlockSite
from devplan.sandbox import exclusive
from devplan.virtual import source_lines
from devplan.virtual.calls import ModelCall, PipelineCall, stop_tokens
from devplan.virtual.cuda import VirtualCard, answering
from devplan.virtual.folding import layer_kinds
from devplan.virtual.function_mode import Answers, default_on_cpu
from devplan.virtual.judging import SplitExecution
from devplan.virtual.known_shapes import KnownShapes
from devplan.virtual.lean import lean
from devplan.virtual.limited import MOST_OPS
from devplan.virtual.loan import Snapshot, restored
from devplan.virtual.memory import MemoryMeter
from devplan.virtual.placing import attach_hooks, label_by_map, past_the_modes
from devplan.virtual.recording import Recorder
from devplan.virtual.repeating import kinds_with_repeats
from devplan.virtual.silence import quiet
from devplan.virtual.split_run import SplitRun
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
        undo.enter_context(exclusive())
        undo.enter_context(lean(split.model))
        undo.enter_context(restored(split.model))
        undo.enter_context(torch.no_grad())
        undo.enter_context(answering(split.cards))
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
        self._unused: Snapshot | None = None
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
            Lines of code where values are made up otherwise (`made_up.Choice`).
        on_output
            Called with what the model gave, when it gave something; labels are still on it.

        Raises
        ------
        TooManyOps
            When it takes more.
        """
        if self._unused is None:
            self._unused = Snapshot(self.split.model)
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
