"""What the gallery holds: `rows.yaml`, read and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

ROWS = Path(__file__).parent / "rows.yaml"
CONTEXT_TOKENS = 8192
"""Of a row that says nothing else: a prompt of a few pages and its answer."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model."""

    model: str
    context_tokens: int


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Rows and machines, in the order in which they are listed."""

    rows: tuple[Row, ...]
    machines: tuple[str, ...]
    """As ``--gpus`` takes them; each that holds a model gets a map."""
    larger: tuple[str, ...]
    """For models that none of `machines` holds: the first of them that does."""
    left_out: dict[str, str]
    """Models of the catalogue that are in no row -> why."""


def read_gallery() -> Gallery:
    """The content of `ROWS`."""
    raw = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    contexts = raw["context"]
    return Gallery(
        rows=tuple(
            Row(model=model, context_tokens=contexts.get(model, CONTEXT_TOKENS))
            for model in raw["models"]
        ),
        machines=tuple(raw["machines"]),
        larger=tuple(raw["larger"]),
        left_out=raw["left_out"],
    )
