"""GPUs that are numbered differently on this machine.

What it does:
    Looks for another order of the GPUs in which every GPU of the map has a place and the map has
    fewer errors or warnings, and names each GPU. It is an error if no model can run with the map
    in the present order, and a warning otherwise.

Why it breaks:
    The large half of the model goes to the small GPU: CUDA out of memory.

Example:
    the map is for 24 + 12 GiB; here cuda:0 has 12 GiB and cuda:1 has 24

Use instead:
    devplan doctor MAP --remap FILE         # the same map, its GPUs renumbered
    devplan.load(map=MAP, remap=True)
    CUDA_VISIBLE_DEVICES=1,0                # or the other numbers for the same GPUs

Limits:
    Never remapped without being asked. A remapped map keeps its stages: it is not planned anew for
    GPUs of other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devplan.core import Environment, Finding, Fix, Severity
from devplan.environment import Need
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP507")


def moved_cards(
    needs: Sequence[Need],
    found: Mapping[str, str],
    environment: Environment,
    as_numbered: Sequence[Finding],
    remake: str,
) -> Finding:
    moves = [(need, environment.card(found[need.device])) for need in needs]
    words = ", ".join(
        f"{need.device} ({need.name}) is {card.device} here"
        for need, card in moves
        if need.device != card.device
    )
    why = next(
        d.message for d in sorted(as_numbered, key=lambda d: d.severity is not Severity.ERROR)
    )
    is_error = any(d.severity is Severity.ERROR for d in as_numbered)
    return Finding(
        code="DP507",
        severity=Severity.ERROR if is_error else Severity.WARNING,
        module="cards",
        message=f"the GPUs are numbered differently on this machine: {words}; as they are "
        f"numbered now, {why}",
        planned=", ".join(f"{need.device} {need.name}" for need in needs),
        found=", ".join(f"{card.device} {card.name}" for card in environment.cards),
        fix=Fix(
            text="remap it: devplan doctor MAP --remap FILE, or devplan.load(map=MAP, remap=True); "
            f"or {remake}"
        ),
    )
