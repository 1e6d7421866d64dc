"""What is kept free of a plan on each card.

The plan counts weights, buffers, cache and activations.  Also on the card, and counted by nobody
yet, are:

* the CUDA context (`CONTEXT_BYTES`): driver state and the kernels that were loaded;
* workspaces of cuBLAS, cuBLASLt and cuDNN (`WORKSPACE_BYTES`);
* memory that torch's allocator holds in segments of 2 MiB, 20 MiB and more but cannot hand out
  (https://docs.pytorch.org/docs/stable/notes/cuda.html#memory-management): the rest.

Activations are no part of it: they come from virtual runs (``devplan.profile.activations``), in
which every tensor is counted in steps of 512 bytes, as the allocator hands memory out.

`DEFAULT_BYTES`, 1 GiB, leaves 600 MiB for the allocator's segments.  It is a choice, not a
measurement.  A card under 8 GiB keeps an eighth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from devplan.core import GIB, MIB, Card, InputError, format_bytes
from devplan.machine.cards import find_device, read_size

CONTEXT_BYTES = 300 * MIB
"""About that since CUDA 11.7 loads kernels when they are first needed, over 1000 MiB before
(https://github.com/pytorch/pytorch/issues/107667, comment of 2023-08-28)."""
WORKSPACE_BYTES = 100 * MIB
"""cuBLAS has 8 MiB for each handle and stream, 32 MiB on Hopper and later
(https://docs.nvidia.com/cuda/cublas/#cublassetworkspace), cuBLASLt 1 to 32 MiB
(https://github.com/pytorch/pytorch/pull/120925); the others are for a second stream or cuDNN."""
DEFAULT_BYTES = GIB
DEFAULT_LARGEST_SHARE = 8
"""The default is at most ``capacity / 8``."""


def default_reserve(capacity_bytes: int) -> int:
    """Bytes kept free of a card where the user said nothing."""
    return min(DEFAULT_BYTES, capacity_bytes // DEFAULT_LARGEST_SHARE)


def reserve_parts(reserve_bytes: int) -> tuple[tuple[str, int], ...]:
    """What a reserve is for: pairs of words and bytes that add up to it."""
    context = min(CONTEXT_BYTES, reserve_bytes)
    workspaces = min(WORKSPACE_BYTES, reserve_bytes - context)
    return (
        ("CUDA context", context),
        ("workspaces of cuBLAS and cuDNN", workspaces),
        ("segments that the allocator cannot hand out", reserve_bytes - context - workspaces),
    )


def with_reserve(cards: tuple[Card, ...], reserve: str | None) -> tuple[Card, ...]:
    """The cards with their reserve.

    Parameters
    ----------
    cards
        In the order of ``--gpus``.
    reserve
        One size for all cards (``2GiB``, ``0``), a list of one size for each, or
        ``DEVICE=SIZE`` pairs (``0=2GiB``); cards without a pair keep the default.

    Raises
    ------
    InputError
        When it cannot be read, does not match the cards, or leaves nothing of a card.
    """
    sizes = {} if reserve is None else _read(reserve, cards)
    reserved = tuple(
        replace(
            card,
            reserve_bytes=sizes.get(card.device, default_reserve(card.capacity_bytes)),
        )
        for card in cards
    )
    for card in reserved:
        if card.budget_bytes <= 0:
            raise InputError(
                f"--reserve of {format_bytes(card.reserve_bytes)} leaves nothing of the "
                f"{format_bytes(card.capacity_bytes)} of {card.device}; reserve less"
            )
    return reserved


def _read(reserve: str, cards: tuple[Card, ...]) -> Mapping[str, int]:
    parts = [part.strip() for part in reserve.split(",")]
    if not all(parts):
        raise InputError(f"--reserve {reserve or repr(reserve)} has an empty item; give a size")
    pairs = [part for part in parts if "=" in part]
    if pairs and len(pairs) < len(parts):
        raise InputError(
            f"--reserve {reserve} mixes sizes and DEVICE=SIZE pairs; write all as pairs: 0=2GiB"
        )
    if pairs:
        return _read_pairs(parts, cards)
    sizes = [read_size(part, "--reserve") for part in parts]
    if len(sizes) == 1:
        sizes *= len(cards)
    if len(sizes) != len(cards):
        raise InputError(
            f"--reserve gives {len(sizes)} sizes for {len(cards)} GPUs; give one for each, "
            "or a single one for all"
        )
    return {card.device: size for card, size in zip(cards, sizes, strict=True)}


def _read_pairs(parts: list[str], cards: tuple[Card, ...]) -> Mapping[str, int]:
    sizes: dict[str, int] = {}
    for part in parts:
        left, _, right = part.partition("=")
        device = find_device(left, cards, "--reserve")
        if device in sizes:
            raise InputError(f"--reserve names {device} twice; give one size for it")
        sizes[device] = read_size(right, "--reserve")
    return sizes
