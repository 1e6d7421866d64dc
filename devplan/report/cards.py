"""The table with a row per card."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from devplan.mapfile.header import gib_cell
from devplan.report.terminal import Terminal
from devplan.types import CardLoad

_NARROWEST_BAR = 6


def card_lines(loads: Sequence[CardLoad], terminal: Terminal) -> list[str]:
    """Weights, buffers, KV cache, reserve, headroom and share of every card, with a bar."""
    onload = any(load.onload_bytes for load in loads)
    heads = ["card", "weights", "buffers", "KV cache", *(["onload"] if onload else [])]
    heads += ["reserve", "headroom", "share"]
    # [heads] go in as a row: tabulate pads headers, and the table would not fit 80 columns.
    table = tabulate(
        [heads, *(_row(load, onload, terminal) for load in loads)],
        tablefmt="plain",
        disable_numparse=True,
        colalign=["left", *["right"] * (len(heads) - 1)],
    ).splitlines()
    bars = [terminal.bar(load.share, _bar_width(table[0], terminal)) for load in loads]
    rows = [f"  {row}  {bar}".rstrip() for row, bar in zip(table[1:], bars, strict=True)]
    explained = "GiB; share of capacity less reserve"
    return [terminal.paint(f"  {table[0]}", "bold"), *rows, terminal.paint(f"  {explained}", "dim")]


def _row(load: CardLoad, onload: bool, terminal: Terminal) -> list[str]:
    parts = [load.weight_bytes, load.buffer_bytes, load.cache_bytes]
    parts += [load.onload_bytes] if onload else []
    headroom = gib_cell(load.headroom_bytes)
    if load.headroom_bytes < 0:
        headroom = terminal.paint(headroom, "red")
    cells = [*map(gib_cell, parts), gib_cell(load.reserve_bytes), headroom]
    return [load.device, *cells, f"{load.share:.1%}"]


def _bar_width(head: str, terminal: Terminal) -> int:
    # Two columns of indent before the table and two between table and bar.
    return max(terminal.width - len(head) - 4, _NARROWEST_BAR)
