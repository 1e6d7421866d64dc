"""Model that is not the map's.

What it does:
    Compares class, number of parameters, configuration and revision of the model with those that
    stand in the map. Another class or size is an error, another configuration a warning, another
    revision of the same configuration a note.

Why it breaks:
    Entries fit other modules, sizes and caches are those of another model: a card overflows, or a
    module is in no entry.

Example:
    devplan.load("maps/qwen2.5-vl-7b__24+12gib.yaml", "./qwen2.5-vl-3b")

Use instead:
    the map of that model: `devplan suggest ./qwen2.5-vl-3b --gpus ...`.

Limits:
    A map that was planned from the built-in catalogue knows the values that the catalogue has; only
    these are compared with a checkpoint's config.json.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.core import Finding, Severity
from devplan.rules.context import CheckContext
from devplan.rules.environment import found_here

SEVERITY = Severity.ERROR


def check(subject: CheckContext) -> Iterator[Finding]:
    yield from found_here(subject, code="DP509")
