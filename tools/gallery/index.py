"""``maps/README.md``: every map with what it promises, made from the map files alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from devplan.core.costs import DECODE, WHOLE_RUN
from devplan.core.types import DeviceMapFile
from devplan.mapfile.read import read_map
from tools.gallery.rows import Gallery

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "maps"
INDEX = FOLDER / "README.md"

HEAD = """\
<!-- Written by `make maps` from the maps beside it and tools/gallery/rows.yaml. -->

# Gallery of maps

Device maps that were planned and proven by `devplan suggest`, for machines that people have, and
that `make maps-check` keeps proven. Each file says how to load its model; nothing here has met a
GPU ([what is not known](../docs/limits.md)). Maps that must be refused, and why, are in
[broken](broken).

Take the map of your cards, or make your own: `devplan suggest MODEL --gpus CARDS`.

## Share of the fullest card

Load as a share of capacity less reserve and activations; `-`: the machine does not hold the model
at that context (`devplan fit MODEL --gpus CARDS` says what is missing). *Packed*: for an engine
that keeps the weights as they are stored ([DP514](../docs/rules/DP514.md)).

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


HEADS = ("model", "machine", "workload", "share", "most tokens", "transfers", "verified")

PIPELINES = """
## Pipelines: share of the fullest card

Of all models of a pipeline together, each with its activations while it runs.

"""
PIPELINE_TABLE = """
## Every map of a pipeline

*Makes*: frames x height x width. *Fullest*: the phase in which a card is fullest, and how much of
its capacity less reserve is in use then. *Copies*: between devices in a run of three denoising
steps. *Verified*: the pipeline's own code was run virtually at that size, prompt to decoding.

"""
PIPELINE_HEADS = ("pipeline", "machine", "makes", "dtype", "share", "fullest", "copies", "verified")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One map of the gallery."""

    name: str
    content: DeviceMapFile

    @property
    def machine(self) -> str:
        return self.name.split("__")[1]

    @property
    def label(self) -> str:
        """Of its row."""
        model = self.content.model
        return f"{model.id} (packed)" if model.packed else model.id

    @property
    def is_pipeline(self) -> bool:
        return bool(self.content.model.components)

    @property
    def share(self) -> float:
        return self.content.certificate.bottleneck


def gallery_maps() -> list[Shown]:
    """Every map in the folder, by name of the file."""
    paths = sorted(FOLDER.glob("*.yaml"))
    return [Shown(name=path.name, content=read_map(path)) for path in paths]


def index_text(gallery: Gallery, maps: list[Shown]) -> str:
    """The whole page."""
    of_tokens = [each for each in maps if not each.is_pipeline]
    pipelines = [each for each in maps if each.is_pipeline]
    rows = (_row, pipeline_row)
    parts = ((HEAD, TABLE, HEADS), (PIPELINES, PIPELINE_TABLE, PIPELINE_HEADS))
    return "".join(
        _section(gallery, shown, row, *texts)
        for shown, row, texts in zip((of_tokens, pipelines), rows, parts, strict=True)
    )


def _section(
    gallery: Gallery,
    maps: list[Shown],
    row: Callable[[Shown], list[str]],
    above_grid: str,
    above_table: str,
    heads: tuple[str, ...],
) -> str:
    """A grid of shares and a table of all its maps, in the order of the rows and machines."""
    order = {each.label: place for place, each in enumerate(gallery.rows)}
    by_model: dict[str, list[Shown]] = {}
    for shown in sorted(maps, key=lambda each: order.get(each.label, len(order))):
        by_model.setdefault(shown.label, []).append(shown)
    columns = _machines(maps)
    lines = [_line(heads), _line(["---"] * len(heads))]
    for shown in by_model.values():
        in_order = sorted(shown, key=lambda m: columns.index(m.machine))
        lines += [_line([m.label, link(m.machine, m.name), *row(m)]) for m in in_order]
    return above_grid + _grid(by_model, columns) + above_table + "".join(lines)


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
        asked = max(each.content.workload.tokens for each in maps)
        cells = {each.machine: link(_cell(each, asked), each.name) for each in maps}
        lines.append(_line([model, *(cells.get(column, "-") for column in columns)]))
    return "".join(lines)


def _cell(shown: Shown, asked_tokens: int) -> str:
    """The share, and what the machine holds it with where that is less than was asked."""
    workload = shown.content.workload
    fewer = "" if workload.tokens == asked_tokens else f" at {workload.tokens:,}"
    return f"{shown.share:.0%}{fewer}"


def _row(shown: Shown) -> list[str]:
    content = shown.content
    return [
        f"{content.workload.batch} x {content.workload.tokens:,}",
        f"{shown.share:.1%}",
        _most_tokens(content),
        _transfers(content),
        verified(content),
    ]


def _most_tokens(content: DeviceMapFile) -> str:
    most = content.certificate.most_tokens
    return "?" if most is None else f"{most:,}"


def _transfers(content: DeviceMapFile) -> str:
    crossings = len(content.transfers)
    if content.traffic is None:
        return f"{crossings}"
    return f"{crossings}, {content.traffic.num_copies(DECODE)} copies"


def verified(content: DeviceMapFile) -> str:
    names = ("transformers", "accelerate", "torch")
    versions = ", ".join(f"{name} {content.versions[name]}" for name in names)
    return f"{content.verification.status}: {versions}"


def link(text: str, target: str) -> str:
    return f"[{text}]({target})"


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |\n"


def pipeline_row(shown: Shown) -> list[str]:
    """What stands in the table of pipelines."""
    content, workload = shown.content, shown.content.workload
    height, width = workload.image_size
    frames = f"{workload.frames} x " if workload.frames else ""
    tiles = ", in tiles" if workload.tiling else ""
    copies = "?" if content.traffic is None else f"{content.traffic.num_copies(WHOLE_RUN)}"
    return [
        f"{frames}{height} x {width}{tiles}",
        content.model.dtype,
        f"{shown.share:.1%}",
        _fullest(content),
        copies,
        verified(content),
    ]


def _fullest(content: DeviceMapFile) -> str:
    """``transformer, 98% of cuda:1``."""
    rooms = {card.device: card.budget_bytes for card in content.machine.cards}
    shares = {
        (phase, device): num_bytes / rooms[device]
        for phase, peaks in content.verification.phase_bytes.items()
        for device, num_bytes in peaks.items()
    }
    phase, device = max(shares, key=shares.__getitem__)
    return f"{phase}, {shares[phase, device]:.0%} of {device}"
