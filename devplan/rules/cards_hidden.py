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

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.WARNING


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP511")
