"""The profile of a skeleton: exact bytes of every block, and what virtual runs of it showed."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from devplan.blocks import BlockSite, partition
from devplan.profile.model import Profile, RunProfile, WeightProfile
from devplan.profile.running import measure_run
from devplan.profile.weights import measure_blocks

__all__ = ["Profile", "RunProfile", "WeightProfile", "block_of", "measure_run", "measure_weights"]


def block_of(sites: tuple[BlockSite, ...], module: nn.Module | None) -> str | None:
    """The block that a module is, or lies in; None where it is in none or there is no module."""
    if module is None:
        return None
    for site in sites:
        if site.module is not None and any(inner is module for inner in site.module.modules()):
            return site.name
    return None
