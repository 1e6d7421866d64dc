"""The bytes of every block's cache as a function of the tokens held, learnt from the model itself.

The model's own code is run virtually at two small numbers of tokens and at the largest that
matters.  Every tensor that the run leaves in its cache carries the name of the block that made
it, whatever class the cache is.  Its size is then fitted as

    constant + per_token * min(tokens, window)

with the two small runs for the first two numbers and the large one for the window.

Phases: read the cache of a run (`cached_tensors`), fit (`fit_growth`), give each folded layer what
its representative has.  Blocks whose cache does not grow (state-space and linear attention layers)
are not run again at the large number, where their code would loop over tokens; they are given
results of the right shape.

Exceptions: a tensor that no block made (one state for all layers, as RWKV has) is shared evenly
among the layers of the stack that ran.  Limits: a layer that both loops over tokens and keeps a
growing cache is looked at only up to `MOST_OPS`; windows beyond are not seen, and a note says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from devplan.types import CacheGrowth
from devplan.virtual.caches import cache_places
from devplan.virtual.labels import maker_of
from devplan.virtual.tracing import Trace


@dataclass(frozen=True, kw_only=True)
class CachedTensor:
    """One tensor that a run left in its cache."""

    maker: str | None
    num_elements: int
    element_bytes: int
    is_float: bool


def cached_tensors(trace: Trace) -> dict[str, CachedTensor]:
    """Every tensor in the cache of a run, by its place: ``past_key_values.layers.3.keys``."""
    found = {**trace.attributes, **dict(cache_places(trace.output))}
    return {
        place: CachedTensor(
            maker=maker_of(tensor),
            num_elements=tensor.numel(),
            element_bytes=tensor.element_size(),
            is_float=tensor.is_floating_point() or tensor.is_complex(),
        )
        for place, tensor in found.items()
    }


@dataclass(frozen=True, kw_only=True)
class Growth:
    """How the elements of one cached tensor grow."""

    constant: int
    per_token: int
    window_tokens: int | None


def fit_growth(small: tuple[int, int], medium: tuple[int, int]) -> Growth:
    """Constant and slope from (tokens, elements) of two runs."""
    (tokens, elements), (more_tokens, more_elements) = small, medium
    per_token = (more_elements - elements) // (more_tokens - tokens)
    constant = elements - per_token * tokens
    return Growth(constant=constant, per_token=per_token, window_tokens=None)


def with_window(growth: Growth, tokens: int, elements: int) -> Growth:
    """The window that explains why a large run holds fewer elements than the slope says."""
    if growth.per_token <= 0 or elements >= growth.constant + growth.per_token * tokens:
        return growth
    window = (elements - growth.constant) // growth.per_token
    return Growth(
        constant=growth.constant, per_token=growth.per_token, window_tokens=max(window, 0)
    )


def block_growths(
    small: tuple[int, Trace],
    medium: tuple[int, Trace],
    large: tuple[int, Trace] | None,
    *,
    kv_element_bytes: int | None,
) -> dict[str, tuple[CacheGrowth, ...]]:
    """Block -> growths of its cache for one sequence, folded layers included.

    Parameters
    ----------
    small, medium, large
        (tokens, trace) of three runs with one sequence.
    kv_element_bytes
        Bytes of an element of the tensors that grow with the tokens; None: as they are.
    """
    runs = [(tokens, cached_tensors(trace)) for tokens, trace in (small, medium)]
    far = (large[0], cached_tensors(large[1])) if large else None
    parts: dict[str | None, list[CacheGrowth]] = defaultdict(list)
    for place, tensor in runs[1][1].items():
        before = runs[0][1].get(place)
        if before is None:
            continue
        growth = fit_growth((runs[0][0], before.num_elements), (runs[1][0], tensor.num_elements))
        if far is not None and place in far[1]:
            growth = with_window(growth, far[0], far[1][place].num_elements)
        replaced = kv_element_bytes if growth.per_token and tensor.is_float else None
        parts[tensor.maker].append(_in_bytes(growth, replaced or tensor.element_bytes))
    return _spread(parts, medium[1])


def _in_bytes(growth: Growth, element_bytes: int) -> CacheGrowth:
    return CacheGrowth(
        constant_bytes=growth.constant * element_bytes,
        bytes_per_token=growth.per_token * element_bytes,
        window_tokens=growth.window_tokens,
    )


def _spread(
    parts: Mapping[str | None, list[CacheGrowth]], trace: Trace
) -> dict[str, tuple[CacheGrowth, ...]]:
    """Give every folded layer what its representative has; share what nobody made."""
    blocks: dict[str, tuple[CacheGrowth, ...]] = {}
    for maker, growths in parts.items():
        if maker is not None:
            joined = _joined(growths)
            for block in (maker, *trace.stands_for.get(maker, ())):
                blocks[block] = joined
    if parts.get(None):
        layers = _layers(trace)
        for block in layers:
            shares = [_divided(growth, len(layers)) for growth in parts[None]]
            blocks[block] = _joined([*blocks.get(block, ()), *shares])
    return blocks


def _layers(trace: Trace) -> list[str]:
    """The layers that ran: members of a stack with at least one other."""
    folded = [name for names in trace.stands_for.values() for name in names]
    members = {*trace.stands_for, *folded} if folded else set(trace.order)
    return [name for name in trace.order if name in members]


def _divided(growth: CacheGrowth, num_blocks: int) -> CacheGrowth:
    return CacheGrowth(
        constant_bytes=-(-growth.constant_bytes // num_blocks),
        bytes_per_token=-(-growth.bytes_per_token // num_blocks),
        window_tokens=growth.window_tokens,
    )


def _joined(growths: list[CacheGrowth]) -> tuple[CacheGrowth, ...]:
    """One growth a window, constants with the first: keys and values become one number."""
    slopes: dict[int | None, int] = defaultdict(int)
    for growth in growths:
        if growth.bytes_per_token:
            slopes[growth.window_tokens] += growth.bytes_per_token
    constant = sum(growth.constant_bytes for growth in growths)
    joined = [
        CacheGrowth(bytes_per_token=slope, window_tokens=window) for window, slope in slopes.items()
    ]
    if constant:
        joined.insert(0, CacheGrowth(constant_bytes=constant))
    return tuple(joined)
