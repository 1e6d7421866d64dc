"""The bytes of every block's cache as a function of the tokens held, learnt from the model itself.

The model's own code is run virtually at two small numbers of tokens and at the largest that
matters.  Every tensor that the run leaves in its cache carries the name of the block that made
it, whatever class the cache is.  Its size is then fitted as

    constant + per_token * min(tokens, window)

with the two small runs for the first two numbers and the large one for the window.

Phases: read the cache of a run (`cached_tensors`), fit (`fit_growth`), give each folded layer what
its representative has.

Exceptions: a folded layer that returns its cache has tensors of its own (GPT-2 up to transformers
4.52).  A tensor that no block made belongs to a layer where its container holds one for each
(caches that are allocated before the first layer runs), and is shared evenly among the layers
otherwise (RWKV has one state for all).  A cache that grows by steps (one compressed entry for 128
tokens) is fitted by a line that passes above its largest size, and so is a tensor that is there
from some number of tokens on.  A layer that was not run at the large number has no window.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from torch import nn

from devplan.core import CacheGrowth
from devplan.profile.model import RunProfile
from devplan.virtual import Trace, cache_places, maker_of


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

    def at(self, tokens: int) -> int:
        held = tokens if self.window_tokens is None else min(tokens, self.window_tokens)
        return self.constant + self.per_token * held


Sample: TypeAlias = tuple[int, int]
"""(tokens, elements) of one cached tensor in one run."""


def fit_growth(small: Sample, medium: Sample, large: Sample | None = None) -> Growth:
    """Constant, slope and window that explain the sizes of one tensor in two or three runs."""
    (few, few_held), (more, more_held) = small, medium
    slope = (more_held - few_held) // (more - few)
    growth = Growth(constant=few_held - slope * few, per_token=slope, window_tokens=None)
    if large is None:
        return growth
    tokens, held = large
    if held == growth.at(tokens):
        return growth
    if few_held < more_held == held and few_held % few == 0:  # a window between the small runs
        slope = few_held // few
        return Growth(constant=0, per_token=slope, window_tokens=held // slope)
    if held < more_held:  # a buffer that is emptied when it is full
        return Growth(constant=more_held, per_token=0, window_tokens=None)
    if held > growth.at(tokens):  # by steps longer than the small runs
        slope = -(-(held - more_held) // tokens)
        return Growth(constant=more_held, per_token=slope, window_tokens=None)
    return replace(growth, window_tokens=(held - growth.constant) // growth.per_token)


def _from_nothing(samples: Sequence[Sample]) -> Growth:
    """A line through nothing, above the sizes of a tensor that the smallest run does not have."""
    slope = max(-(-held // tokens) for tokens, held in samples)
    return Growth(constant=0, per_token=slope, window_tokens=None)


def block_growths(
    small: tuple[int, Trace],
    medium: tuple[int, Trace],
    large: tuple[int, Trace] | None,
    *,
    layers: Collection[str],
    kv_element_bytes: int | None = None,
) -> dict[str, tuple[CacheGrowth, ...]]:
    """Block -> growths of its cache for one sequence, folded layers included.

    Parameters
    ----------
    small, medium, large
        (tokens, trace) of three runs with one sequence.
    layers
        Blocks that are part of a stack: they share what no block made.
    kv_element_bytes
        Bytes of an element of the tensors that grow with the tokens; None: as they are.
    """
    runs = [
        (tokens, cached_tensors(trace)) for tokens, trace in filter(None, (small, medium, large))
    ]
    owners = _owners(runs[1][1], [block for block in medium[1].order if block in layers])
    parts: dict[str | None, list[CacheGrowth]] = defaultdict(list)
    for place, tensor in runs[1][1].items():
        samples = [(tokens, held[place].num_elements) for tokens, held in runs if place in held]
        begins = place not in runs[0][1]
        growth = _from_nothing(samples) if begins else fit_growth(*samples)
        replaced = kv_element_bytes if growth.per_token and tensor.is_float else None
        parts[tensor.maker or owners.get(place)].append(
            _in_bytes(growth, replaced or tensor.element_bytes)
        )
    return _spread(parts, medium[1], layers)


def _owners(places: Iterable[str], layers: Sequence[str]) -> dict[str, str]:
    """Place -> layer, for what a container holds once for each layer: ``key_cache.3``."""
    numbered: dict[tuple[str, ...], dict[int, str]] = defaultdict(dict)
    for place in places:
        parts = place.split(".")
        for position, part in enumerate(parts):
            if part.isdigit():
                container = (*parts[:position], "*", *parts[position + 1 :])
                numbered[container][int(part)] = place
    owners: dict[str, str] = {}
    for _, found in sorted(numbered.items(), key=lambda item: item[0].index("*")):
        if set(found) == set(range(len(layers))):
            for number, place in found.items():
                owners.setdefault(place, layers[number])
    return owners


def _in_bytes(growth: Growth, element_bytes: int) -> CacheGrowth:
    return CacheGrowth(
        constant_bytes=growth.constant * element_bytes,
        bytes_per_token=growth.per_token * element_bytes,
        window_tokens=growth.window_tokens,
    )


def _spread(
    parts: Mapping[str | None, list[CacheGrowth]], trace: Trace, layers: Collection[str]
) -> dict[str, tuple[CacheGrowth, ...]]:
    """Give every folded layer what its representative has; share what nobody made."""
    held: dict[str, list[CacheGrowth]] = defaultdict(list)
    for maker, growths in parts.items():
        folded = [block for block in trace.stands_for.get(maker, ()) if block not in parts]
        for block in (maker, *folded) if maker is not None else ():
            held[block].extend(growths)
    sharing = [block for block in trace.order if block in layers] or trace.order
    for growth in _joined(parts.get(None, [])):
        for block in sharing:
            held[block].append(_divided(growth, len(sharing)))
    return {block: joined for block, growths in held.items() if (joined := _joined(growths))}


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


def cache_notes(model: nn.Module, run: RunProfile) -> tuple[str, ...]:
    """A model that generates and showed no cache: some releases return one only when asked."""
    generates = getattr(model, "can_generate", lambda: False)()
    if not generates or not run.order or any(run.cache.values()):
        return ()
    return ("no KV cache was seen in the virtual run, so none is counted",)
