"""From what was asked of a workload to the workload that is planned for.

What was not asked is the model's to say, and is known once its skeleton is built: the dtype is
that of the checkpoint, and the context is the default or all that the model supports, whichever is
less.  A context that was asked for is kept as it is, with a warning where it goes beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from devplan.core.arguments import flag, optional, whole_number, wrong
from devplan.core.dtypes import compute_dtype_name, full_dtype_name
from devplan.core.types import Workload

# Bounds that catch a slip of the finger and let every real workload through: a million sequences,
# and a thousand times the longest context that a model has (1M tokens).
LARGEST_BATCH = 2**20
LARGEST_CONTEXT = 2**30
LARGEST_IMAGES = 1024
"""Of a sequence: models look at them one by one."""
LARGEST_FRAMES = 4096
LARGEST_SIDE = 99_999
"""Pixels of an image."""

OBJECTIVE_NAMES = ("balance", "context", "fewest", "latency")
"""What a plan may be best at; `devplan.planning.objectives` says how each is reached."""

DEFAULT_BATCH = 1
DEFAULT_CONTEXT_TOKENS = 4096
"""A choice: the context of Llama 2, which every model of today has; a chat with a page or two.
A plan for more needs ``--context``."""


@dataclass(frozen=True, kw_only=True)
class WorkloadRequest:
    """What was asked; None is what was not."""

    batch: int = DEFAULT_BATCH
    context_tokens: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    images: int | None = None
    image_size: tuple[int, int] | None = None
    frames: int | None = None
    tiling: bool = False

    def __post_init__(self) -> None:
        """Refuse what no workload can be; numbers of numpy and dtypes of torch are taken.

        Raises
        ------
        InputError
            With the field and what it takes.
        """
        for name, read in _FIELDS.items():
            object.__setattr__(self, name, read(name, getattr(self, name)))


def as_workload(name: str, value: Any) -> Workload | WorkloadRequest | None:
    """A workload or a request as they are, and None."""
    if value is None or isinstance(value, Workload | WorkloadRequest):
        return value
    raise wrong(name, value, "devplan.WorkloadRequest(context_tokens=32768)")


def _dtype(full_name: Any) -> Any:
    def read(name: str, value: Any) -> str:
        if isinstance(value, str) or type(value).__module__ == "torch":
            return full_name(str(value))
        raise wrong(name, value, "a dtype such as bfloat16")

    return read


def read_image_size(name: str, value: Any) -> tuple[int, int]:
    """Height and width in pixels."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(name, value, "height and width in pixels: (448, 672)")
    height, width = (whole_number(1, LARGEST_SIDE)(name, side) for side in value)
    return height, width


_FIELDS = {
    "batch": whole_number(1, LARGEST_BATCH),
    "context_tokens": optional(whole_number(1, LARGEST_CONTEXT)),
    "dtype": optional(_dtype(compute_dtype_name)),
    "kv_dtype": optional(_dtype(full_dtype_name)),
    "images": optional(whole_number(0, LARGEST_IMAGES)),
    "image_size": optional(read_image_size),
    "frames": optional(whole_number(1, LARGEST_FRAMES)),
    "tiling": flag,
}


def as_request(name: str, value: Any) -> WorkloadRequest:
    """A request as it is; of a `Workload` its values; None asks for nothing."""
    if value is None:
        return WorkloadRequest()
    if isinstance(value, Workload):
        known = (field.name for field in fields(WorkloadRequest))
        return WorkloadRequest(**{each: getattr(value, each) for each in known})
    if isinstance(value, WorkloadRequest):
        return value
    raise wrong(name, value, "devplan.WorkloadRequest(context_tokens=32768)")


def resolve_workload(
    request: WorkloadRequest, *, dtype: str, max_tokens: int | None
) -> tuple[Workload, tuple[str, ...]]:
    """The workload that is planned for, and what people should know of it.

    Parameters
    ----------
    request
        What was asked.
    dtype
        Of the skeleton, by its full name.
    max_tokens
        Longest context that the model supports; None where nothing is known.
    """
    workload = Workload(
        batch=request.batch,
        context_tokens=_context_tokens(request, max_tokens),
        dtype=dtype,
        kv_dtype=request.kv_dtype,
        images=request.images,
        image_size=request.image_size,
        frames=request.frames,
        tiling=request.tiling,
    )
    return workload, _warnings(workload, max_tokens)


def _context_tokens(request: WorkloadRequest, max_tokens: int | None) -> int:
    if request.context_tokens is not None:
        return request.context_tokens
    return min(DEFAULT_CONTEXT_TOKENS, max_tokens or DEFAULT_CONTEXT_TOKENS)


def _warnings(workload: Workload, max_tokens: int | None) -> tuple[str, ...]:
    if max_tokens is None or workload.context_tokens <= max_tokens:
        return ()
    return (
        f"warning: a context of {workload.context_tokens:,} tokens is beyond the "
        f"{max_tokens:,} that the model's configuration supports",
    )
