"""``maps/table.csv``: one line for each map of the gallery, whether or not its file is kept.

A line says what a reviewer wants to see change: the share of the fullest GPU, the bound on it, the
most tokens, the copies, and a hash of everything else.  The map itself comes from the command that
the line's columns name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from devplan.core import DECODE, WHOLE_RUN, DeviceMapFile
from devplan.machine import machine_label, parse_gpus
from devplan.mapfile import to_document

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "maps"
TABLE = FOLDER / "table.csv"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One map: a model on a machine.  All values are text, as the file has them."""

    model: str
    """With ``(packed)`` where quantized weights stay as they are stored."""
    gpus: str
    """As ``--gpus`` takes them."""
    workload: str
    """``1 x 8192``: sequences x tokens; of a pipeline frames x height x width."""
    dtype: str
    verified: str
    share: str
    """Load of the fullest GPU as a share of its capacity less reserve and activations."""
    bound: str
    """No map of this kind has a smaller share."""
    most_tokens: str
    """The context at which the first GPU is full; ``?`` where no cache was seen."""
    copies: str
    """Between devices: in a decode step, of a pipeline in a run; ``?`` where none was counted."""
    fullest: str
    """Of a pipeline: the phase in which a GPU is fullest."""
    file: str
    """Below ``maps/``; empty where the file is not kept."""
    sha256: str
    """Of the values of the map, without versions: the first 16 digits."""

    @property
    def machine(self) -> str:
        return machine_label(parse_gpus(self.gpus))

    @property
    def is_pipeline(self) -> bool:
        return bool(self.fullest)


def line_of(gpus: str, content: DeviceMapFile, file: str) -> Line:
    """The line of a map that was made for a machine; `file` is empty where it is not kept."""
    certificate = content.certificate
    is_pipeline = bool(content.model.components)
    most = certificate.most_tokens
    return Line(
        model=f"{content.model.id} (packed)" if content.model.packed else content.model.id,
        gpus=gpus,
        workload=_workload(content),
        dtype=content.model.dtype,
        verified=content.verification.status,
        share=f"{certificate.bottleneck:.1%}",
        bound=f"{certificate.lower_bound:.1%}",
        most_tokens="" if is_pipeline else "?" if most is None else str(most),
        copies=_copies(content, WHOLE_RUN if is_pipeline else DECODE),
        fullest=_fullest(content) if is_pipeline else "",
        file=file,
        sha256=values_hash(to_document(content)),
    )


def _workload(content: DeviceMapFile) -> str:
    workload = content.workload
    if not content.model.components:
        return f"{workload.batch} x {workload.context}"
    size = [*([workload.frames] if workload.frames else []), *(workload.image_size or ())]
    return " x ".join(map(str, size)) + (" in tiles" if workload.tiling else "")


def _copies(content: DeviceMapFile, step: str) -> str:
    return "?" if content.traffic is None else str(content.traffic.num_copies(step))


def _fullest(content: DeviceMapFile) -> str:
    """``transformer: 98% of cuda:1``."""
    rooms = {card.device: card.budget_bytes for card in content.machine.cards}
    shares = {
        (phase, device): num_bytes / rooms[device]
        for phase, peaks in content.verification.phase_bytes.items()
        for device, num_bytes in peaks.items()
    }
    phase, device = max(shares, key=shares.__getitem__)
    return f"{phase}: {shares[phase, device]:.0%} of {device}"


def values_hash(document: dict[str, Any]) -> str:
    """A hash of what a map says, whatever the releases were that it was made with."""
    verification = {key: value for key, value in document["verification"].items()}
    verification.pop("detail", None)
    kept = {**document, "verification": verification}
    kept.pop("versions", None)
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_table(path: Path = TABLE) -> list[Line]:
    """The lines of the table, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Line(**row) for row in csv.DictReader(file)]


def table_text(lines: Iterable[Line]) -> str:
    """The whole table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [each.name for each in fields(Line)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(line) for line in lines)
    return text.getvalue()


def differences(old: Line | None, new: Line | None) -> list[str]:
    """What differs between the line that is there and the one that is planned today."""
    line = old or new
    assert line is not None
    where = f"maps/table.csv: {line.model} on {line.gpus}"
    if new is None:
        return [f"{where}: has a line, and no map is made today; `make maps` removes it"]
    if old is None:
        return [f"{where}: has no line; `make maps` adds it"]
    before, after = asdict(old), asdict(new)
    changed = [
        f"{key} {before[key]!r} -> {after[key]!r}" for key in before if before[key] != after[key]
    ]
    return [f"{where}: {', '.join(changed)}; `make maps` writes it anew"] if changed else []
