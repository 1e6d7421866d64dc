"""From what was asked of a workload to the workload that is planned for.

What was not asked is the model's to say, and is known once its skeleton is built: the dtype is
that of the checkpoint, and the context is the default or all that the model supports, whichever is
less.  A context that was asked for is kept as it is, with a warning where it goes beyond.
"""

from __future__ import annotations

from dataclasses import dataclass

from devplan.types import Workload

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
