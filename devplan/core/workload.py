"""The workload: what the model will be asked to do.

A field that was not asked for is None, and is left to the model.  `resolve_workload` fills in what
a plan needs, once the skeleton is built: the dtype is that of the checkpoint, and the context is
the default or all that the model supports, whichever is less.  A context that was asked for is kept
as it is, with a warning where it goes beyond.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from devplan.core.arguments import flag, optional, whole_number, wrong
from devplan.core.dtypes import full_dtype_name
from devplan.core.errors import InputError

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
DEFAULT_CONTEXT = 4096
"""A choice: the context of Llama 2, which every model of today has; a chat with a page or two.
A plan for more needs ``--context``."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What the model will be asked to do; it decides the size of the KV cache and of activations.

    The fields are named like the options of the command line.

    Raises
    ------
    InputError
        For a value that no workload can have, with the field and what it takes.  Integers of NumPy
        and dtypes of torch are accepted.

    Examples
    --------
    >>> Workload(batch=4, context=32768, dtype="bf16").dtype
    'bfloat16'
    """

    batch: int = DEFAULT_BATCH
    """Sequences at a time."""
    context: int | None = None
    """Tokens held per sequence: prompt and new tokens together.  None: 4,096, or all that the model
    supports where that is less."""
    dtype: str | None = None
    """Compute dtype, ``"bfloat16"``; None: as the checkpoint says."""
    kv_dtype: str | None = None
    """Dtype of the KV cache; None: as the model's own code makes it."""
    images: int | None = None
    """Images of each sequence; None: one where the model takes images."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels; None: a small one, where the model does not fix it, and what a
    pipeline makes by itself."""
    frames: int | None = None
    """Frames of the video that a pipeline makes; None: its own number, or no video."""
    tiling: bool = False
    """Whether a pipeline's autoencoder decodes in tiles (``enable_tiling``)."""

    def __post_init__(self) -> None:
        for name, read in _FIELDS.items():
            object.__setattr__(self, name, read(name, getattr(self, name)))

    @property
    def tokens(self) -> int:
        """The context as a number, which results of devplan and map files always have.

        Raises
        ------
        InputError
            When the context is left to the model.
        """
        if self.context is None:
            raise InputError("this workload leaves the context to the model; give context=4096")
        return self.context


def as_workload(name: str, value: Any) -> Workload | None:
    """A workload as it is, and None."""
    if value is None or isinstance(value, Workload):
        return value
    raise wrong(name, value, "devplan.Workload(context=32768)")


def _dtype(name: str, value: Any) -> str:
    if isinstance(value, str) or type(value).__module__ == "torch":
        return full_dtype_name(str(value))
    raise wrong(name, value, "a dtype such as bfloat16")


def read_image_size(name: str, value: Any) -> tuple[int, int]:
    """Height and width in pixels."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise wrong(name, value, "height and width in pixels: (448, 672)")
    height, width = (whole_number(1, LARGEST_SIDE)(name, side) for side in value)
    return height, width


_FIELDS = {
    "batch": whole_number(1, LARGEST_BATCH),
    "context": optional(whole_number(1, LARGEST_CONTEXT)),
    "dtype": optional(_dtype),
    "kv_dtype": optional(_dtype),
    "images": optional(whole_number(0, LARGEST_IMAGES)),
    "image_size": optional(read_image_size),
    "frames": optional(whole_number(1, LARGEST_FRAMES)),
    "tiling": flag,
}


def resolve_workload(
    workload: Workload, *, dtype: str, max_tokens: int | None
) -> tuple[Workload, tuple[str, ...]]:
    """The workload with context and dtype filled in, and what people should know of it.

    Parameters
    ----------
    workload
        What was asked.
    dtype
        Of the skeleton, by its full name.
    max_tokens
        Longest context that the model supports; None where nothing is known.
    """
    context = workload.context
    if context is None:
        context = min(DEFAULT_CONTEXT, max_tokens or DEFAULT_CONTEXT)
    workload = replace(workload, context=context, dtype=dtype)
    return workload, _warnings(workload, max_tokens)


def _warnings(workload: Workload, max_tokens: int | None) -> tuple[str, ...]:
    if max_tokens is None or workload.tokens <= max_tokens:
        return ()
    return (
        f"warning: a context of {workload.tokens:,} tokens is beyond the "
        f"{max_tokens:,} that the model's configuration supports",
    )
