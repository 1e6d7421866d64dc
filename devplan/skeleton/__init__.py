"""The skeleton: a real model on the meta device, at full size, without weights.

The class is the one that the checkpoint names; it is built inside ``torch.device("meta")``, so
that not a byte of weights is allocated (``accelerate.init_empty_weights`` would first make each
tensor on the CPU).  One builder a library, one table.
"""

from __future__ import annotations

from devplan.skeleton.build import build_skeleton
from devplan.skeleton.model import Skeleton

__all__ = ["Skeleton", "build_skeleton"]
