"""``maps/README.md``: what the table of the gallery says, for people to look up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from devplan.core import DeviceMapFile
from devplan.machine import parse_gpus
from devplan.mapfile import read_map
from tools.gallery.rows import Gallery
from tools.gallery.table import FOLDER, Line

INDEX = FOLDER / "README.md"

HEAD = """\
<!-- Written by `make maps` from table.csv and the maps beside it. -->

# Gallery of maps

Device maps that `devplan suggest` planned and proved for common machines. `make maps-check` plans
and proves each of them again. None of them has run on a GPU yet ([limits](../docs/limits.md)).
Maps that `devplan check` must reject, and why, are in [broken](broken).

A cell with a link has its map here. For any other cell, and for your own machine, make the map:

    devplan suggest MODEL --gpus GPUS --context TOKENS

[table.csv](table.csv) has one line for each cell: the workload, the share of the fullest GPU, the
bound that no map of this kind can beat, the most tokens, the copies between devices in a decode
step (in a pipeline: in a whole run), and a hash of the map. The versions are {versions}.

## Share of the fullest GPU

Load as a share of capacity less reserve and activations, with one sequence and, where the model
takes images, one image. `-`: the machine cannot hold the model at that context;
`devplan fit MODEL --gpus GPUS` says what is missing. *Packed*: for an engine that keeps the
quantized weights as they are stored ([DP514](../docs/rules/DP514.md)).

"""
PIPELINES = """
## Pipelines: share of the fullest GPU

All models of a pipeline together, each with its activations while it runs.

"""


def index_text(gallery: Gallery, lines: Iterable[Line]) -> str:
    """The whole page."""
    lines = list(lines)
    models = [line for line in lines if not line.is_pipeline]
    pipelines = [line for line in lines if line.is_pipeline]
    head = HEAD.format(versions=_versions(kept_maps()))
    return head + _grid(gallery, models) + PIPELINES + _grid(gallery, pipelines)


def kept_maps() -> dict[str, DeviceMapFile]:
    """Every map that is kept as a file, by the file's name."""
    return {path.name: read_map(path) for path in sorted(FOLDER.glob("*.yaml"))}


def in_order(gallery: Gallery, lines: Iterable[Line]) -> list[Line]:
    """Lines in the order of the rows, and of the machines by their memory."""
    order = {row.label: place for place, row in enumerate(gallery.rows)}
    return sorted(lines, key=lambda each: (order[each.model], _memory(each.gpus), each.gpus))


def _versions(maps: Mapping[str, DeviceMapFile]) -> str:
    names = ("transformers", "accelerate", "torch")
    made = {", ".join(f"{name} {each.versions[name]}" for name in names) for each in maps.values()}
    return "; ".join(sorted(made))


def _memory(gpus: str) -> int:
    return sum(card.capacity_bytes for card in parse_gpus(gpus).cards)


def _grid(gallery: Gallery, lines: list[Line]) -> str:
    columns = sorted({line.gpus for line in lines}, key=lambda gpus: (_memory(gpus), gpus))
    by_model: dict[str, dict[str, Line]] = {}
    for line in in_order(gallery, lines):
        by_model.setdefault(line.model, {})[line.gpus] = line
    heads = ["model", "workload", *columns]
    rows = [_row(heads), _row(["---"] * len(heads))]
    for model, cells in by_model.items():
        most = max(cells.values(), key=lambda each: _size(each.workload)).workload
        shown = [_cell(cells[gpus], most) if gpus in cells else "-" for gpus in columns]
        rows.append(_row([model, most, *shown]))
    return "".join(rows)


def _size(workload: str) -> int:
    """To compare workloads of one row, which differ in the context only."""
    return int(workload.split(" x ")[1].split()[0])


def _cell(line: Line, workload: str) -> str:
    """The share, and the workload where it is less than the row's."""
    less = "" if line.workload == workload else f" at {line.workload}"
    text = f"{float(line.share.rstrip('%')):.0f}%{less}"
    return f"[{text}]({line.file})" if line.file else text


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
