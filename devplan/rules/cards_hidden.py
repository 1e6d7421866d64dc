"""Setting that hides or renumbers GPUs.

What it does:
    Reads CUDA_VISIBLE_DEVICES as CUDA does, and says what cuda:0 of a map means then. A value that
    hides GPUs by mistake is a warning: an empty text, a GPU named twice, an item that names none
    and ends the list. Hidden and renumbered GPUs are notes. Without CUDA_DEVICE_ORDER=PCI_BUS_ID,
    CUDA and nvidia-smi may number unequal GPUs differently: a note where they do.

Why it breaks:
    torch sees fewer GPUs than the map names, or other ones.

Example:
    CUDA_VISIBLE_DEVICES=0,0        # no GPU at all

Use instead:
    CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=0,1

Limits:
    Variables that are changed after torch has asked for the GPUs have no effect, and this is not
    seen. ROCR_VISIBLE_DEVICES and MIG profiles are not judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from devplan.core import Environment, Finding, Fix, Severity, parse_whole
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
            message=f"{words}: CUDA numbers the fastest GPU first",
            fix=Fix(text=f"{_ORDER}={_BY_BUS} gives both the same numbers"),
        )


# The N-th item of CUDA_VISIBLE_DEVICES that names a GPU is cuda:N.  An item is a number or the
# beginning of a UUID (GPU-8932f937, MIG-...); the kind of the first item is the kind of all.  The
# first item that names no GPU ends the list, and with a GPU that is named twice no GPU is seen, as
# with an empty text (CUDA C++ Programming Guide, section "CUDA Environment Variables",
# https://docs.nvidia.com/cuda/cuda-c-programming-guide/index.html#env-vars).  torch reads the
# variable in the same way before it asks the driver: torch.cuda._parse_visible_devices (2.13).

VARIABLE = "CUDA_VISIBLE_DEVICES"

_NUMBER = re.compile(r"\+?(\d+)")
"""Read as C's strtoul does: what follows the digits is ignored."""
_PREFIXES = ("GPU-", "MIG-")


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """A value of the variable, as it is read."""

    text: str
    items: tuple[str, ...]
    """What remains, in order: the N-th is ``cuda:N``."""
    problem: str = ""
    """What is odd about it, in words; empty where nothing is."""

    @property
    def is_renumbering(self) -> bool:
        """Whether ``cuda:N`` is another GPU than the N-th of the driver."""
        return any(item != str(place) for place, item in enumerate(self.items))


def read_visibility(text: str, num_gpus: int | None = None) -> Visibility:
    """How a value is read.

    Parameters
    ----------
    text
        The value.
    num_gpus
        GPUs of the machine; None: not known, and every number is taken to name one.

    Examples
    --------
    >>> read_visibility("2,3").items
    ('2', '3')
    >>> read_visibility("0,0").problem
    'names GPU 0 twice, and then no GPU is seen'
    """
    words = text.split(",")
    if not any(word.strip() for word in words):
        return Visibility(text=text, items=(), problem="is empty, and then no GPU is seen")
    prefix = next((each for each in _PREFIXES if text.startswith(each)), None)
    items: list[str] = []
    for place, word in enumerate(words):
        item = _number(word, num_gpus) if prefix is None else _uuid(word, prefix)
        if item is None:
            why = f"holds {word.strip() or repr(word)}, which names no GPU"
            rest = ", ".join(repr(each.strip()) for each in words[place + 1 :])
            why += f" and hides what follows ({rest})" if rest else ""
            return Visibility(text=text, items=tuple(items), problem=why)
        if item in items:
            why = f"names GPU {item} twice, and then no GPU is seen"
            return Visibility(text=text, items=(), problem=why)
        items.append(item)
    return Visibility(text=text, items=tuple(items))


def _number(word: str, num_gpus: int | None) -> str | None:
    match = _NUMBER.match(word.strip())
    if match is None or (num_gpus is not None and parse_whole(match[1]) >= num_gpus):
        return None
    return str(parse_whole(match[1]))


def _uuid(word: str, prefix: str) -> str | None:
    return word if word.startswith(prefix) else None
