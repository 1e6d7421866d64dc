"""The maps of one row: the model is studied once and planned and proven on each machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from devplan.core.types import Machine
from devplan.core.workload import Workload
from devplan.machine.label import machine_label
from devplan.machine.parse import parse_gpus
from devplan.mapfile.default_name import default_path
from devplan.mapfile.write import dump_map
from devplan.workflows.profiled_model import ProfiledModel, on_machine, study
from devplan.workflows.suggesting import suggest_studied
from tools.gallery.rows import Gallery, Row
from tools.gallery.table import Line, line_of


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of one model on one machine."""

    model: str
    gpus: str
    path: str = ""
    """Of the map file; empty: the model does not fit, or does not run."""
    text: str = ""
    status: str = "does not fit"
    line: Line | None = None
    """Of the table; None where there is no map."""

    @property
    def is_kept(self) -> bool:
        """Whether the gallery keeps the file, beside the line."""
        return self.line is not None and bool(self.line.file)


def make_row(gallery: Gallery, row: Row) -> list[Made]:
    """Every map of a model: on each machine that holds it, or on the first larger one."""
    known = cache(partial(_study, row))
    made = [make_cell(row, known, gpus) for gpus in (*gallery.machines, *row.machines)]
    if not any(each.path for each in made):
        made += _until_one_fits(row, known, gallery.larger)
    return made


Known = Callable[[Workload], ProfiledModel]


def _study(row: Row, request: Workload) -> ProfiledModel:
    """What is known of a model before there is a machine; `on_machine` adds what cards decide."""
    return study(row.model, request, (), packed=row.packed)


def _until_one_fits(row: Row, known: Known, larger: tuple[str, ...]) -> Iterator[Made]:
    for gpus in larger:
        made = make_cell(row, known, gpus)
        yield made
        if made.path:
            return


def make_cell(row: Row, known: Known, gpus: str) -> Made:
    """The map of a model on one machine, as ``devplan suggest`` would write it."""
    machine, request = parse_gpus(gpus), row.request_on(gpus)
    studied = known(request)
    if _is_beyond(studied, machine):
        return Made(model=row.model, gpus=gpus)
    suggestion = suggest_studied(on_machine(studied, machine), machine, pins={})
    map_file = suggestion.map_file
    if map_file is None or suggestion.errors:
        status = "does not run" if suggestion.errors else "does not fit"
        return Made(model=row.model, gpus=gpus, status=status)
    named = replace(suggestion.workload, dtype=request.dtype, kv_dtype=request.kv_dtype)
    label, of_model = machine_label(machine), map_file.model
    path = default_path(
        of_model.id, label, named, packed=of_model.packed, quantize=of_model.quantize
    )
    return Made(
        model=row.model,
        gpus=gpus,
        path=path.as_posix(),
        text=dump_map(map_file, path),
        status=map_file.verification.status,
        line=line_of(gpus, map_file, path.name if gpus in row.files else ""),
    )


def _is_beyond(known: ProfiledModel, machine: Machine) -> bool:
    """Whether the weights alone are more than all cards together: no plan need be tried."""
    budget = sum(card.budget_bytes for card in machine.cards)
    blocks = known.profile.weights.blocks.values()
    return sum(block.weight_bytes + block.buffer_bytes for block in blocks) > budget


def write_if_new(root: Path, made: Made) -> bool:
    """Write a map where the file is not the same already; whether anything was written."""
    path = root / made.path
    if path.exists() and path.read_text(encoding="utf-8") == made.text:
        return False
    path.write_text(made.text, encoding="utf-8")
    return True
