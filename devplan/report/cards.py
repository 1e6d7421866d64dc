"""The table with a row per card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tabulate import tabulate

from devplan.core import CardLoad
from devplan.mapfile import gib_cell, part_cell, shown_parts
from devplan.report.terminal import Terminal

_NARROWEST_BAR = 6
# The table and its bar have to fit 80 columns.
_SHORT = {"activations": "activ."}


def card_lines(loads: Sequence[CardLoad], terminal: Terminal) -> list[str]:
    """Parts of the load, reserve, headroom and share of every card, with a bar."""
    parts = shown_parts(loads)
    heads = ["card", *(_SHORT.get(head, head) for head in parts), "reserve", "headroom", "share"]
    # [heads] go in as a row: tabulate pads headers, and the table would not fit 80 columns.
    table = tabulate(
        [heads, *(_row(load, parts.values(), terminal) for load in loads)],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["left", *["right"] * (len(heads) - 1)],
    ).splitlines()
    bars = [terminal.bar(load.share, _bar_width(table[0], terminal)) for load in loads]
    rows = [f"  {row}  {bar}".rstrip() for row, bar in zip(table[1:], bars, strict=True)]
    rest = "reserve and activations" if "activations" in parts else "reserve"
    explained = f"GiB; share: load of capacity less {rest}"
    if any(load.uncounted for load in loads):
        explained += "; ?: not counted"
    return [terminal.paint(f"  {table[0]}", "bold"), *rows, terminal.paint(f"  {explained}", "dim")]


def _row(load: CardLoad, attributes: Iterable[str], terminal: Terminal) -> list[str]:
    parts = [part_cell(load, attribute) for attribute in attributes]
    headroom = gib_cell(load.headroom_bytes)
    if load.headroom_bytes < 0:
        headroom = terminal.paint(headroom, "red")
    cells = [*parts, gib_cell(load.reserve_bytes), headroom]
    return [load.device, *cells, f"{load.share:.1%}"]


def _bar_width(head: str, terminal: Terminal) -> int:
    # Two columns of indent before the table and two between table and bar.
    return max(terminal.width - len(head) - 4, _NARROWEST_BAR)
