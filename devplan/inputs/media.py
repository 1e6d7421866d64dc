"""Candidates: the ways in which a model may want to be given an image, a video or a sound.

A maker yields candidates in the order of likelihood; the first that the model's own code accepts
in a virtual run is taken (``devplan.inputs.probe``).  Makers speak of names of arguments and of
shapes that configuration and weights state, never of model types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Arguments for the items of one kind, for the whole batch."""

    kind: str
    """``image``, ``video``, ``audio`` or ``values``."""
    items: int
    """Of each sequence."""
    arguments: Mapping[str, Any]
    runs: tuple[int, ...] = (1,)
    """Into how many runs the placeholders of one item may be divided: a video's stand together, or
    frame by frame with the time of each in between."""
