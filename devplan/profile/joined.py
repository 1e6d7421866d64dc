"""Activations of the same model from runs at several ranges of tokens, as one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from devplan.core import ActivationGrowth, RunRecord, ensure
from devplan.profile.model import ActivationProfile


def joined_activations(first: ActivationProfile, second: ActivationProfile) -> ActivationProfile:
    """What two profiles of one batch know together.

    Where both ran at the same number of tokens, the larger need counts.  A profile that could
    not be had (its run raised) adds nothing.
    """
    if not second.blocks and second.between is None:
        return first
    names = dict.fromkeys((*first.blocks, *second.blocks))
    return ActivationProfile(
        blocks={name: _joined(first.blocks.get(name), second.blocks.get(name)) for name in names},
        between=_joined(first.between, second.between),
        raised=first.raised,
        notes=tuple(dict.fromkeys((*first.notes, *second.notes))),
    )


def _joined(a: ActivationGrowth | None, b: ActivationGrowth | None) -> ActivationGrowth | None:
    if a is None or b is None:
        return a or b
    ensure(a.batch == b.batch, "runs of different batches")
    most: dict[int, int] = dict(a.samples)
    for tokens, num_bytes in b.samples:
        most[tokens] = max(num_bytes, most.get(tokens, 0))
    return ActivationGrowth(samples=rising(most), batch=a.batch)


def most_needed(record: RunRecord, device: str) -> dict[str, int]:
    """Block -> the most bytes of activations that it needed on a device in any phase."""
    most: defaultdict[str, int] = defaultdict(int)
    for item in record.activations:
        if item.device == device:
            most[item.block] = max(most[item.block], item.num_bytes)
    return dict(most)


def rising(samples: Mapping[int, int]) -> tuple[tuple[int, int], ...]:
    """(tokens, bytes) in the order of the tokens, bytes never falling."""
    found: list[tuple[int, int]] = []
    for tokens, num_bytes in sorted(samples.items()):
        found.append((tokens, max(num_bytes, found[-1][1] if found else 0)))
    return tuple(found)
