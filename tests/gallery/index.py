"""``maps/README.md``: every map with what it promises, made from the map files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from devplan.costs import DECODE
from devplan.mapfile import read_map
from devplan.types import DeviceMapFile
from tests.gallery.rows import Gallery

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "maps"
INDEX = FOLDER / "README.md"

HEAD = """\
<!-- Written by `make maps` from the maps beside it and tests/gallery/rows.yaml. -->

# Gallery of maps

Device maps that were planned and proven by `devplan suggest`, for machines that people have, and
that `make maps-check` keeps proven. Each file says how to load its model; nothing here has met a
GPU ([what is not known](../docs/limits.md)). Maps that must be refused, and why, are in
[broken](broken).

Take the map of your cards, or make your own: `devplan suggest MODEL --gpus CARDS`.

## Share of the fullest card

Load as a share of capacity less reserve and activations; `-`: the machine does not hold the model
at that context (`devplan fit MODEL --gpus CARDS` says what is missing).

"""
TABLE = """
## Every map

*Workload*: sequences x tokens of context, in the model's own dtype and with one image where it
takes images. *Most tokens*: the context at which the first card is full, whatever the model's own
limit is; `?`: no cache was seen. *Transfers*: how often activations cross between cards, and the
copies that accelerate's hooks make in a decode step. *Verified*: the split model was run virtually,
prefill and two decode steps, at the workload, with these versions; `unverified`: its code is not
here (DP901).

"""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One map of the gallery."""

    name: str
    content: DeviceMapFile

    @property
    def machine(self) -> str:
        return self.name.split("__")[1]


def gallery_maps() -> list[Shown]:
    """Every map in the folder, by name of the file."""
    paths = sorted(FOLDER.glob("*.yaml"))
    return [Shown(name=path.name, content=read_map(path)) for path in paths]


def index_text(gallery: Gallery, maps: list[Shown]) -> str:
    """The whole page."""
    order = {row.model: place for place, row in enumerate(gallery.rows)}
    by_model: dict[str, list[Shown]] = {}
    for shown in sorted(maps, key=lambda each: order.get(each.content.model.id, len(order))):
        by_model.setdefault(shown.content.model.id, []).append(shown)
    columns = _machines(maps)
    return HEAD + _grid(by_model, columns) + TABLE + _table(by_model, columns)


def _machines(maps: list[Shown]) -> list[str]:
    """Labels of machines, smallest total of memory first."""
    sizes = {
        each.machine: sum(card.capacity_bytes for card in each.content.machine.cards)
        for each in maps
    }
    return sorted(sizes, key=lambda label: (sizes[label], label))


def _grid(by_model: Mapping[str, list[Shown]], columns: list[str]) -> str:
    lines = [_line(["model", *columns]), _line(["---"] * (len(columns) + 1))]
    for model, maps in by_model.items():
        cells = {each.machine: _link(f"{_share(each):.0%}", each.name) for each in maps}
        lines.append(_line([model, *(cells.get(column, "-") for column in columns)]))
    return "".join(lines)


def _table(by_model: Mapping[str, list[Shown]], columns: list[str]) -> str:
    heads = ("model", "machine", "workload", "share", "most tokens", "transfers", "verified")
    lines = [_line(heads), _line(["---"] * len(heads))]
    for maps in by_model.values():
        lines += [_row(each) for each in sorted(maps, key=lambda m: columns.index(m.machine))]
    return "".join(lines)


def _row(shown: Shown) -> str:
    content = shown.content
    workload = f"{content.workload.batch} x {content.workload.context_tokens:,}"
    return _line(
        [
            content.model.id,
            _link(shown.machine, shown.name),
            workload,
            f"{_share(shown):.1%}",
            _most_tokens(content),
            _transfers(content),
            _verified(content),
        ]
    )


def _share(shown: Shown) -> float:
    return shown.content.certificate.bottleneck


def _most_tokens(content: DeviceMapFile) -> str:
    most = content.certificate.most_tokens
    return "?" if most is None else f"{most:,}"


def _transfers(content: DeviceMapFile) -> str:
    crossings = len(content.transfers)
    if content.traffic is None:
        return f"{crossings}"
    return f"{crossings}, {content.traffic.num_copies(DECODE)} copies"


def _verified(content: DeviceMapFile) -> str:
    names = ("transformers", "accelerate", "torch")
    versions = ", ".join(f"{name} {content.versions[name]}" for name in names)
    return f"{content.verification.status}: {versions}"


def _link(text: str, target: str) -> str:
    return f"[{text}]({target})"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"
