"""Models of the catalogue with everything that planners ask of them, built once a process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache

from torch import nn

from devplan.core.types import BlockGraph, Machine
from devplan.core.workload import Workload
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.models.source import ModelSource, Skeleton
from devplan.profile.graph import build_graph
from devplan.profile.model import Profile
from devplan.profile.profiling import profile_skeleton

CONTEXT_TOKENS = 32_768


@dataclass(frozen=True, eq=False, kw_only=True)
class Model:
    """A model on the meta device, its profile and its graph."""

    id: str
    source: ModelSource
    skeleton: Skeleton
    profile: Profile
    graph: BlockGraph
    profile_ms: float
    """Wall time of the profile: mostly the virtual runs."""

    @property
    def module(self) -> nn.Module:
        return self.skeleton.model


@cache
def model(id: str) -> Model:
    """A catalogue model in bfloat16."""
    source = resolve(id)
    skeleton = build_skeleton(source, "bfloat16")
    start = time.perf_counter()
    profile = profile_skeleton(skeleton, source, workload())
    profile_ms = 1e3 * (time.perf_counter() - start)
    return Model(
        id=id,
        source=source,
        skeleton=skeleton,
        profile=profile,
        graph=build_graph(profile),
        profile_ms=profile_ms,
    )


def workload(tokens: int = CONTEXT_TOKENS) -> Workload:
    """One sequence of that many tokens."""
    return Workload(batch=1, context=tokens, dtype="bfloat16")


def machine(gpus: str) -> Machine:
    """Cards without reserve, since the peers know none."""
    from devplan.machine.parse import parse_gpus

    return parse_gpus(gpus, reserve="0")
