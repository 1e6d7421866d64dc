"""What devplan predicts for a published case: one virtual run on a machine that holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from devplan.core.types import Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.planning.instance import PlanRequest
from devplan.planning.planner import plan
from devplan.virtual import DECODE_STEPS
from devplan.workflows.profiled_model import study
from tools.receipts.cases import Case, model_of

GPU = "2000GiB"
"""Holds every case, so that only the number of GPUs splits a model."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A published figure and its prediction."""

    case: Case
    predicted_bytes: int | None = None
    reason: str = ""
    """Why there is no prediction."""

    @property
    def error(self) -> float:
        """Predicted over measured, less 1."""
        assert self.predicted_bytes is not None
        return self.predicted_bytes / self.case.measured_bytes - 1


def compared(case: Case, folder: Path) -> Comparison:
    """A case with its prediction; what devplan cannot plan is no error, the reason stands in it."""
    try:
        return Comparison(case=case, predicted_bytes=predicted_bytes(case, folder))
    except Exception as error:  # the code of any model: the page lists what it said
        return Comparison(case=case, reason=f"{type(error).__name__}: {error}"[:200])


def predicted_bytes(case: Case, folder: Path) -> int:
    """Bytes on all GPUs together, of the part of the run that the case measured."""
    machine = parse_gpus(",".join([GPU] * case.gpus))
    studied = study(model_of(case, folder), _workload(case), (machine,))
    found = plan(studied.graph, PlanRequest(machine=machine, workload=studied.workload))
    if not isinstance(found, Plan):
        raise ValueError(found.reason)
    peak = sum(load.peak_bytes for load in found.loads)
    static = sum(load.weight_bytes + load.buffer_bytes for load in found.loads)
    tokens = (case.prompt or 0) + case.new
    cache = sum(block.cache_bytes(tokens, case.batch) for block in studied.graph.blocks)
    end = static + cache
    by_mode = {"generate": max(peak, end), "prefill": peak, "end": end, "loaded": static}
    return {**by_mode, "run": peak}[case.mode]


def _workload(case: Case) -> Workload:
    """The prompt alone is run: a virtual run generates a few tokens behind it."""
    generates = case.mode != "run" and case.prompt is not None
    context = case.prompt + DECODE_STEPS + 1 if generates else case.prompt
    return Workload(batch=case.batch, context=context, dtype=case.dtype, image_size=case.image_size)
