"""GPU that this machine does not have.

What it does:
    Looks on this machine for every GPU that the map uses: in `devplan doctor MAP`, when a map is
    loaded, and in `devplan check --here`.

Why it breaks:
    Loading fails with "CUDA error: invalid device ordinal". GPUs that are in the machine but
    hidden by CUDA_VISIBLE_DEVICES are not there for the process either; DP511 says which.

Example:
    CUDA_VISIBLE_DEVICES=0 python serve.py      # the map has cuda:0 and cuda:1

Use instead:
    the map that `devplan suggest MODEL --gpus 0 ...` writes for the GPUs that are here; the
    message has the whole command, with the workload of the map.

Limits:
    DP004 is about a GPU that the map's own machine does not have; this one about the machine at
    hand. Accelerators of other kinds are not looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from devplan.core import Environment, Finding, Fix, Severity, format_bytes
from devplan.environment import Need
from devplan.rules.context import CheckContext

SEVERITY = Severity.ERROR


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP503")


def no_cards(needs: Sequence[Need]) -> Finding:
    """A laptop: one sentence, and no plan for cards that are not there."""
    wanted = ", ".join(
        f"{format_bytes(need.least_bytes)} on {need.device} ({need.name})" for need in needs
    )
    return Finding(
        code="DP503",
        severity=Severity.ERROR,
        module="cards",
        message=f"torch sees no GPU here, and the map puts {wanted}",
        planned=", ".join(need.name for need in needs),
        found="none",
        fix=Fix(
            text="load it on a machine with these GPUs; `devplan check MAP` checks it without them"
        ),
    )


def missing_card(need: Need, environment: Environment, remake: str) -> Finding:
    number = len(environment.cards)
    seen = ", ".join(f"{card.device} ({card.name})" for card in environment.cards)
    hidden = len(environment.driver_cards) - number
    hint = f"; the driver has {hidden} more that this process does not see" if hidden > 0 else ""
    return Finding(
        code="DP503",
        severity=Severity.ERROR,
        module=need.device,
        message=f"{need.device} ({need.name}) is not here: torch sees "
        f"{seen or 'no GPU'}{hint}; the map puts {format_bytes(need.least_bytes)} there",
        planned=need.name,
        fix=Fix(text=remake),
    )
