"""What people found when they read the code behind a finding: ``readings.yaml``.

A **reading** belongs to places (``file:line``) at which one op fails for one reason, and says
whether the finding is true:

* ``confirmed``: PyTorch would raise there on two GPUs with such a map;
* ``refuted``: it would not; devplan is wrong, and what has to change is said.

The catalogue is of one release of transformers, the one that `RELEASE` names: places are lines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.sweep.row import FoundMismatch

CATALOGUE = Path(__file__).parent / "readings.yaml"
VERDICTS = ("confirmed", "refuted")
_MODELS = "transformers/models/"

Key = tuple[str, str]
"""Place and op."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One reason, wherever it shows."""

    verdict: str
    maps: str
    """Which maps it happens with, in words."""
    why: str
    keys: tuple[Key, ...]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All readings, and the release that they are of."""

    transformers: str
    readings: tuple[Reading, ...]

    @property
    def by_key(self) -> Mapping[Key, Reading]:
        return {key: reading for reading in self.readings for key in reading.keys}


def key_of(finding: FoundMismatch) -> Key:
    """What a reading is looked up by."""
    return finding.place, finding.op


def load_readings(path: Path = CATALOGUE) -> Catalogue:
    """The catalogue; every field is there, every key once."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    readings = tuple(map(_reading, content["readings"]))
    keys = [key for reading in readings for key in reading.keys]
    twice = {key for key in keys if keys.count(key) > 1}
    assert not twice, f"{path.name} reads {sorted(twice)} twice"
    return Catalogue(transformers=content["transformers"], readings=readings)


def _reading(content: Mapping[str, Any]) -> Reading:
    assert content["verdict"] in VERDICTS, content
    return Reading(
        verdict=content["verdict"],
        maps=_one_line(content["maps"]),
        why=_one_line(content["why"]),
        keys=tuple((_whole(place), op) for op, places in content["at"].items() for place in places),
    )


def _whole(place: str) -> str:
    """``align/modeling_align.py:1146`` is short for the file below ``transformers/models``."""
    return place if place.startswith("transformers/") else _MODELS + place


def _one_line(text: str) -> str:
    return " ".join(text.split())
