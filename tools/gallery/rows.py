"""What the gallery holds: `rows.yaml`, read and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from devplan.core.workload import Workload
from devplan.mapfile.default_name import default_path

ROWS = Path(__file__).parent / "rows.yaml"
CONTEXT_TOKENS = 8192
"""Of a row that says nothing else: a prompt of a few pages and its answer."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model, with the options that ``devplan suggest`` is given."""

    model: str
    request: Workload
    """The workload."""
    elsewhere: Mapping[str, Workload] = field(default_factory=dict)
    """Machine -> what is asked of it instead: less, where it does not hold the model with all."""
    machines: tuple[str, ...] = ()
    """Beside those of the gallery."""
    files: tuple[str, ...] = ()
    """Machines whose map is kept as a file; every other map is a line of the table only."""
    packed: bool = False
    is_pipeline: bool = False

    def request_on(self, gpus: str) -> Workload:
        """The workload on a machine."""
        return self.elsewhere.get(gpus, self.request)

    @property
    def label(self) -> str:
        return f"{self.model} (packed)" if self.packed else self.model

    @property
    def start(self) -> str:
        """What the names of its maps begin with."""
        return default_path(self.model, "", Workload(context=4096), packed=self.packed).name.split(
            "__"
        )[0]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Rows and machines, in the order in which they are listed."""

    rows: tuple[Row, ...]
    machines: tuple[str, ...]
    """As ``--gpus`` takes them; each that holds a model gets a line."""
    larger: tuple[str, ...]
    """For models that none of `machines` holds: the first of them that does."""
    left_out: dict[str, str]
    """Models of the catalogue that are in no row -> why."""


def read_gallery() -> Gallery:
    """The content of `ROWS`."""
    raw = yaml.safe_load(ROWS.read_text(encoding="utf-8"))
    pipelines = [_pipeline(model, options) for model, options in raw["pipelines"].items()]
    rows = (*(row for model in raw["models"] for row in _of_tokens(model, raw)), *pipelines)
    kept = {label: tuple(machines) for label, machines in raw["files"].items()}
    return Gallery(
        rows=tuple(replace(row, files=kept.get(row.label, ())) for row in rows),
        machines=tuple(raw["machines"]),
        larger=tuple(raw["larger"]),
        left_out=raw["left_out"],
    )


def _of_tokens(model: str, raw: Mapping[str, Any]) -> Iterator[Row]:
    """The row of a model, and one of its packed weights where that is asked for."""
    tokens = raw["context"].get(model, CONTEXT_TOKENS)
    row = Row(model=model, request=Workload(context=tokens))
    yield row
    packed = raw["packed"].get(model)
    if packed is not None:
        fewer = packed["context"]
        elsewhere = {gpus: Workload(context=fewer[gpus]) for gpus in fewer}
        machines = tuple(packed["machines"])
        yield replace(row, elsewhere=elsewhere, machines=machines, packed=True)


def _pipeline(model: str, options: Mapping[str, Any]) -> Row:
    options = dict(options)
    size = options.pop("image_size", None)
    image_size = tuple(map(int, size.split("x"))) if size else None
    request = Workload(image_size=image_size, **options)
    return Row(model=model, request=request, is_pipeline=True)
