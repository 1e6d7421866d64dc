"""The profile of a skeleton: exact bytes of every block, and what virtual runs of it showed."""

from devplan.profile.model import Profile, RunProfile, WeightProfile
from devplan.profile.profiling import (
    PACKED_NOTE,
    block_of,
    measure_weights,
    profile_skeleton,
    sizes_in_memory,
)

__all__ = [
    "PACKED_NOTE",
    "Profile",
    "RunProfile",
    "WeightProfile",
    "block_of",
    "measure_weights",
    "profile_skeleton",
    "sizes_in_memory",
]
