"""How a model is run virtually: the options, and the names of the calls as ``--run`` takes them.

=================  =============================================================================
``auto``           how the class is used, and every way below that it has; the default
``all``            the same, and ``forward`` at the workload
``generate``       this call alone
``forward``        this call alone
``batch``          two sequences, one of them padded
``text``           no image, video or sound, where the model takes them beside text
``video``          a video, where the model takes images as well
``beams``          beam search, with the cache reordered
``loss``           one forward over all positions, with labels
=================  =============================================================================

Several of the last five may be named, separated by commas; the call at the workload comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devplan.core import (
    LARGEST_FRAMES,
    LARGEST_IMAGES,
    InputError,
    Reader,
    as_workload,
    flag,
    mapping,
    nearest,
    of_class,
    optional,
    read_device,
    read_image_size,
    read_quantize,
    user_function,
    whole_number,
    wrong,
)
from devplan.inputs import InputRequest
from devplan.machine import as_machine
from devplan.sandbox import time_limit

USUAL, ALL = "auto", "all"
CALLS = ("generate", "forward")
WAYS = ("batch", "text", "video", "beams", "loss")
RUNS = (USUAL, ALL, *CALLS, *WAYS)

PLANNED = (USUAL, "forward", ALL)
"""Values of ``devplan suggest --run``: the calls whose memory is planned for."""

IN_WORDS = {
    "batch": "a padded batch of 2",
    "text": "text alone",
    "video": "a video",
    "beams": "beam search",
    "loss": "a forward over all positions with labels",
}
"""Way -> what a report calls it."""


def checked_run(run: str) -> str:
    """The value of ``--run``.

    Raises
    ------
    InputError
        When it names no call.
    """
    if ":" in run:
        return run
    for name in run.split(","):
        if name not in RUNS or (name not in WAYS and name != run):
            raise InputError(
                f"--run {run!r} is not one of {', '.join((USUAL, ALL, *CALLS))}, nor some of "
                f"{','.join(WAYS)}, nor FILE.py:FUNCTION{nearest(name, RUNS)}"
            )
    return run


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How the model is run."""

    run: str = USUAL
    """``auto`` (the usual call and every short one that the class can be called by), ``generate``
    or ``forward`` alone, ``all`` (``auto``, and ``forward`` at the workload), some of `WAYS`
    separated by commas, or ``file.py:function``: a function of the user's that runs the model,
    called with the model and its inputs."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``generate``: ``{"num_beams": 2}``."""
    request: InputRequest | None = None
    """What the example inputs contain; None: text of the workload's size, and images as below."""
    images: int | None = None
    """Images of a sequence; None: as many as the workload has."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; None: that of the workload."""
    frames: int | None = None
    """Frames of the video that a pipeline makes; None: as many as the workload has."""
    tiling: bool = False
    """Whether a pipeline's autoencoder works in tiles; else as the workload says."""
    inputs: str | None = None
    """``file.py:function`` of the user's that makes the inputs instead."""
    full: bool = False
    """Whether every layer is run, also where layers are alike."""
    timeout_s: float | None = None
    """Seconds for all of it: waiting for another thread's run, building the model, making inputs
    and the run; None: no limit.  It interrupts the model's code whatever
    that catches, but not in the middle of one call into C (a long search of a regular expression).
    No timer or ``SIGALRM`` of the caller's is touched."""

    def __post_init__(self) -> None:
        """Refuse what no option can be.

        Raises
        ------
        InputError
            With the field and what it takes.
        """
        for name, read in _FIELDS.items():
            object.__setattr__(self, name, read(name, getattr(self, name)))

    @property
    def is_users(self) -> bool:
        """Whether a function of the user's runs the model."""
        return ":" in self.run

    @property
    def ways(self) -> tuple[str, ...]:
        """The short calls that are to be made."""
        if self.run in (USUAL, ALL):
            return WAYS
        asked = self.run.split(",")
        return tuple(way for way in WAYS if way in asked)


def _run(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong(name, value, f"{', '.join(map(repr, RUNS))} or FILE.py:FUNCTION as text")
    return checked_run(value)


_FIELDS = {
    "run": _run,
    "generation": mapping('arguments of generate: {"num_beams": 2}'),
    "request": optional(of_class("an InputRequest of devplan.inputs", InputRequest)),
    "images": optional(whole_number(0, LARGEST_IMAGES)),
    "image_size": optional(read_image_size),
    "frames": optional(whole_number(1, LARGEST_FRAMES)),
    "tiling": flag,
    "inputs": optional(user_function),
    "full": flag,
    "timeout_s": time_limit,
}

CHECK_ARGUMENTS: Mapping[str, Reader] = {
    "machine": optional(as_machine),
    "main_device": optional(read_device),
    "workload": as_workload,
    "packed": flag,
    "quantize": optional(read_quantize),
    "options": optional(of_class("devplan.RunOptions(...)", RunOptions)),
    "trust_remote_code": flag,
}
"""How the arguments of a check are read, in every function that checks a map."""
