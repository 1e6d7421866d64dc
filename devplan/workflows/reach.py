"""The most tokens that any map holds, foretold from its run at the workload and from single-card
runs at other lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from devplan.core import CardLoad
from devplan.planning import MAX_TOKENS, largest
from devplan.rules import CheckContext


def most_tokens(subject: CheckContext, loads: Sequence[CardLoad]) -> tuple[int | None, str | None]:
    """(tokens per sequence, card that is full then).

    0 where a card is too full without any token; None where no number of tokens fills a card.
    What the run needed on a card beyond what was foretold there is taken to be needed at every
    number of tokens.
    """
    workload = subject.workload
    foretold = active_bytes(subject, workload.context_tokens)
    beyond = {
        load.device: max(load.activation_bytes - foretold.get(load.device, 0), 0) for load in loads
    }

    def left(tokens: int) -> dict[str, int]:
        cache, active = _cache_bytes(subject, tokens), active_bytes(subject, tokens)
        return {
            load.device: load.capacity_bytes
            - load.reserve_bytes
            - (load.load_bytes - load.cache_bytes)
            - cache.get(load.device, 0)
            - active.get(load.device, 0)
            - beyond[load.device]
            for load in loads
        }

    most = largest(lambda tokens: min(left(tokens).values()) >= 0, low=0)
    if most is not None and most >= MAX_TOKENS:
        return None, None
    after = left(most + 1 if most is not None else 0)
    return most or 0, min(after, key=lambda device: after[device])


def active_bytes(subject: CheckContext, tokens: int) -> dict[str, int]:
    """Device -> activations of the block that needs most of those computed there."""
    graph, batch = subject.structure.graph, subject.workload.batch
    active: dict[str, int] = {}
    if graph.between is not None:
        active[subject.main_device] = graph.between.bytes_at(tokens, batch)
    for name, device in computed_on(subject).items():
        needed = graph.block(name).activation_bytes(tokens, batch)
        active[device] = max(active.get(device, 0), needed)
    return active


def _cache_bytes(subject: CheckContext, tokens: int) -> dict[str, int]:
    graph, batch = subject.structure.graph, subject.workload.batch
    held: dict[str, int] = {}
    for name, device in computed_on(subject).items():
        held[device] = held.get(device, 0) + graph.block(name).cache_bytes(tokens, batch)
    return held


def computed_on(subject: CheckContext) -> Mapping[str, str]:
    """Block -> the device that computes it; blocks that a map divides count where their entry is,
    and not at all where they have none."""
    found = {}
    for name in subject.structure.graph.names:
        device = subject.execution_device(subject.device_of(name))
        if device is not None:
            found[name] = device
    return found
