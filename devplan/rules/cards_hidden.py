"""Setting that hides or renumbers cards.

What it does:
    Reads CUDA_VISIBLE_DEVICES as CUDA does, and says what cuda:0 of a map means then. A value that
    hides cards by mistake is a warning: an empty text, a GPU named twice, an item that names none
    and ends the list. Hidden and renumbered cards are notes. Without CUDA_DEVICE_ORDER=PCI_BUS_ID,
    CUDA and nvidia-smi may number unequal cards differently: a note where they do.

Why it breaks:
    torch sees fewer cards than the map names, or other ones.

Example:
    CUDA_VISIBLE_DEVICES=0,0        # no card at all

Use instead:
    CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1

Limits:
    Variables that are changed after torch has asked for the cards have no effect, and this is not
    seen. ROCR_VISIBLE_DEVICES and MIG profiles are not judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Environment, Finding, Fix, Severity
from devplan.environment import VARIABLE, read_visibility
from devplan.rules.context import CheckContext

SEVERITY = Severity.WARNING

_ORDER = "CUDA_DEVICE_ORDER"
_BY_BUS = "PCI_BUS_ID"


def check(context: CheckContext) -> Iterator[Finding]:
    yield from context.found_here("DP511")


def visibility_differences(environment: Environment) -> Iterator[Finding]:
    """What ``CUDA_VISIBLE_DEVICES`` and the order of the cards make of ``cuda:N``."""
    if environment.visible is not None:
        yield from _visible(environment)
    yield from _order(environment)


def _visible(environment: Environment) -> Iterator[Finding]:
    known = len(environment.driver_cards) or None
    seen = read_visibility(environment.visible, known)
    setting = f"{VARIABLE}={environment.visible}"
    if seen.problem:
        yield _hidden(
            Severity.WARNING,
            f"{setting} {seen.problem}",
            environment,
            f"unset {VARIABLE}, or name each GPU once: {VARIABLE}=0,1",
        )
    hidden = len(environment.driver_cards) - len(environment.cards)
    if hidden > 0 and not seen.problem:
        yield _hidden(
            Severity.NOTE,
            f"{setting} hides {hidden} of the {len(environment.driver_cards)} GPUs of this machine",
            environment,
        )
    if seen.is_renumbering:
        meaning = ", ".join(f"cuda:{place} is {item}" for place, item in enumerate(seen.items))
        yield _hidden(
            Severity.NOTE,
            f"{setting}: in a map {meaning if len(seen.items) < 9 else 'numbers count its items'}",
            environment,
        )


def _hidden(severity: Severity, message: str, environment: Environment, fix: str = "") -> Finding:
    return Finding(
        code="DP511",
        severity=severity,
        module=VARIABLE,
        message=message,
        found=environment.visible,
        fix=Fix(text=fix),
    )


def _order(environment: Environment) -> Iterator[Finding]:
    """CUDA numbers the fastest first, nvidia-smi by bus: they differ on unequal cards only."""
    if environment.variables.get(_ORDER) == _BY_BUS or environment.visible is not None:
        return
    moved = [
        (card.device, card.driver_index)
        for card in environment.cards
        if card.driver_index is not None and card.device != f"cuda:{card.driver_index}"
    ]
    if moved:
        words = ", ".join(f"{device} is GPU {index} of nvidia-smi" for device, index in moved)
        yield Finding(
            code="DP511",
            severity=Severity.NOTE,
            module=_ORDER,
            message=f"{words}: CUDA numbers the fastest card first",
            fix=Fix(text=f"{_ORDER}={_BY_BUS} gives both the same numbers"),
        )
