"""GPU of another kind.

What it does:
    Compares the names of the GPUs with those of the map, and their compute capability with that of
    the planned kind. Where the map is locked, also whether it is the very GPU (a note).

Why it breaks:
    What fits still runs, but in other times; an older architecture may lack a dtype (bfloat16
    before 8.0, float8 before 8.9) or a kernel that the model asks for.

Example:
    the map is for an a100-80gb, cuda:0 is a Tesla V100-SXM2-32GB

Use instead:
    the map that `devplan suggest MODEL --gpus 0,1 ...` writes on this machine.

Limits:
    A map for a bare size (24GiB) takes any GPU of that size. Which dtypes and kernels the model
    really asks for is not looked up.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Card, Finding, Fix, FoundCard, Severity, is_size
from devplan.environment import Need, is_same_kind
from devplan.machine import capability_of
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP506")


def other_kind(need: Need, card: FoundCard, remake: str) -> Iterator[Finding]:
    planned = Card(
        device=need.device, name=need.name, capacity_bytes=need.planned_bytes, reserve_bytes=0
    )
    capability = capability_of(planned)
    if is_same_kind(need.name, card):
        if need.uuid is not None and card.uuid is not None and need.uuid != card.uuid:
            yield _other_piece(need, card)
        return
    if is_size(need.name):
        return  # any card of that size was meant
    older = (
        capability is not None
        and card.compute_capability is not None
        and card.compute_capability < capability
    )
    worse = (
        f", and of an older architecture ({_dotted(card.compute_capability)} instead of "
        f"{_dotted(capability)}): kernels and dtypes may be missing"
        if older
        else ": times differ from those of the map"
    )
    yield Finding(
        code="DP506",
        severity=Severity.WARNING,
        module=card.device,
        message=f"{card.device} is a {card.name}, the map is for a {need.name}{worse}",
        planned=need.name,
        found=card.name,
        fix=Fix(text=remake),
    )


def _other_piece(need: Need, card: FoundCard) -> Finding:
    return Finding(
        code="DP506",
        severity=Severity.NOTE,
        module=card.device,
        message=f"{card.device} is another {card.name} than the one that the map is locked to",
        planned=need.uuid,
        found=card.uuid,
    )


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
