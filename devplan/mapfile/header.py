"""The comment at the top of a map file: the model, how to load it, and a table of the GPUs."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from pathlib import PurePath

from tabulate import tabulate

from devplan import __version__
from devplan.core import DeviceMapFile, DeviceMemory, format_gib
from devplan.io import LONGEST_PROSE, visible
from devplan.mapfile.loading_code import load_code, load_heading


def header_lines(map_file: DeviceMapFile, shown_path: str | PurePath) -> list[str]:
    """Lines of the comment, without their comment signs."""
    model, workload = map_file.model, map_file.workload
    lines = [
        f"Device map for {visible(model.id)} on {_cards_in_words(map_file)},",
        f"batch {workload.batch}, {workload.tokens} tokens of context "
        f"(devplan {__version__}, {map_file.verification.status}).",
        "",
        f"{load_heading(map_file)}:",
        "",
        *(f"    {line}" for line in load_code(map_file, shown_path)),
        "",
        "GiB per GPU:",
        "",
        *card_table(map_file).splitlines(),
    ]
    return [_one_line(line) for line in lines]


def card_table(map_file: DeviceMapFile) -> str:
    """The prediction as a plain table in GiB, one row per card."""
    names = {card.device: visible(card.name) for card in map_file.machine.cards}
    parts = shown_parts(map_file.loads)
    heads = ["GPU", *parts, "reserve", "headroom", "capacity", "name"]
    rows = [[*_row(load, tuple(parts)), names[load.device]] for load in map_file.loads]
    aligned = ["left", *["right"] * (len(heads) - 2), "left"]
    # The heads are passed as a row, because tabulate pads headers.
    return tabulate([heads, *rows], tablefmt="plain", disable_numparse=True, colalign=aligned)


PARTS = {
    "weights": "weight_bytes",
    "buffers": "buffer_bytes",
    "KV cache": "cache_bytes",
    "onload": "onload_bytes",
    "activations": "activation_bytes",
}
"""Column -> attribute of `DeviceMemory`, for everything that a plan puts on a GPU."""
_OCCASIONAL = ("onload", "activations")


def shown_parts(loads: Iterable[DeviceMemory]) -> dict[str, str]:
    """`PARTS` without the columns that most plans do not need and that are empty here."""
    loads = tuple(loads)
    return {
        head: part
        for head, part in PARTS.items()
        if head not in _OCCASIONAL
        or any(getattr(load, part) or part in load.uncounted for load in loads)
    }


def _row(load: DeviceMemory, heads: tuple[str, ...]) -> list[str]:
    parts = [part_cell(load, PARTS[head]) for head in heads]
    rest = [load.reserve_bytes, load.headroom_bytes, load.capacity_bytes]
    return [load.device, *parts, *map(gib_cell, rest)]


def part_cell(load: DeviceMemory, attribute: str) -> str:
    """GiB of a part of a load; ``?`` where it was not counted."""
    return "?" if attribute in load.uncounted else gib_cell(getattr(load, attribute))


def gib_cell(num_bytes: int) -> str:
    """GiB for a table; ``<0.01`` where the number is too small to show, but not zero."""
    text = format_gib(num_bytes)
    return "<0.01" if num_bytes > 0 and text == "0.00" else text


def _cards_in_words(map_file: DeviceMapFile) -> str:
    names = [visible(card.name) for card in map_file.machine.cards]
    groups = [(name, len(list(run))) for name, run in groupby(names)]
    return " + ".join(f"{count} x {name}" if count > 1 else name for name, count in groups)


def _one_line(text: str) -> str:
    """Without line breaks: one in a name would end the comment and begin YAML."""
    return visible(text, LONGEST_PROSE)
