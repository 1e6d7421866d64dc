"""The published figures, and the folders of configurations that stand for their models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from devplan.catalog.models import find_catalog_model

HERE = Path(__file__).parent
UNITS = {"GiB": 2**30, "MiB": 2**20, "MB": 10**6}
"""Bytes of each unit in which figures were published."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where figures were published, and what they were measured with."""

    where: str
    measured_with: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One published figure."""

    id: str
    group: str
    model: str
    """Name in the catalogue, or in ``configurations.yaml``."""
    measured: float
    unit: str
    mode: str
    """What of a prediction is comparable with it; ``cases.yaml`` lists the words."""
    source: str
    batch: int
    prompt: int | None = None
    """Tokens of the prompt of each sequence; None: a pipeline."""
    new: int = 0
    """Tokens that were generated."""
    gpus: int = 1
    image_size: tuple[int, int] | None = None
    """Height and width in pixels."""
    dtype: str | None = None
    differs: str = ""
    """What the measured release did otherwise than today's; empty: the case counts."""

    @property
    def measured_bytes(self) -> int:
        return round(self.measured * UNITS[self.unit])


@cache
def _read(name: str) -> Mapping[str, Any]:
    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


def read_cases() -> tuple[Case, ...]:
    """All published figures."""
    return tuple(
        Case(**{**row, "image_size": tuple(size) if (size := row.get("image_size")) else None})
        for row in _read("cases.yaml")["cases"]
    )


def read_sources() -> Mapping[str, Source]:
    """Key that cases name -> source."""
    return {key: Source(**row) for key, row in _read("cases.yaml")["sources"].items()}


def model_of(case: Case, folder: Path) -> str:
    """What devplan is given for a case: a name of the catalogue, or a folder made in `folder`."""
    if case.model not in _read("configurations.yaml"):
        return case.model
    made = folder / case.id.replace("/", "_")
    for name, content in _files(case.model).items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
    return str(made)


def _files(model: str) -> Mapping[str, Any]:
    entry = _read("configurations.yaml")[model]
    if "files" in entry:
        return entry["files"]
    return {"config.json": {**_config(entry.get("like")), **entry["config"]}}


def _config(model: str | None) -> Mapping[str, Any]:
    if model is None:
        return {}
    if model in _read("configurations.yaml"):
        return _files(model)["config.json"]
    entry = find_catalog_model(model)
    assert entry is not None, f"configurations.yaml names {model}, which the catalogue lacks"
    return entry.config
