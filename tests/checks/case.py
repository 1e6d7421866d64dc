"""A case of ``cases/``: a map that triggers a rule and one that does not, on a real model class.

``case.yaml`` holds ``model`` (a folder of ``models/`` or a MODEL string) and what the check needs
beside the map: ``gpus``, ``reserve``, ``main``, ``offload``, ``batch``, ``context``, ``versions``,
``installed``, ``runs`` and ``missed``.  Below ``broken`` and ``clean`` they hold for that map
alone.  Runs are `RunRecord`s field by field, as the engine would have given them.

A case of DP5 has ``map`` (a file of ``maps/``) instead of the two maps, and an ``environment`` for
each: ``cards`` as arguments of ``tests.environment.machines.card``, and fields of an `Environment`.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from devplan.checker.preparation import against, prepare
from devplan.core.environment import Environment
from devplan.core.findings import MissedRun, RunRecord
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.mapfile.device_map_files import parse_device_map
from devplan.rules.context import CheckContext
from tests.environment.machines import card, machine

HERE = Path(__file__).parent
CASES = sorted(path for path in (HERE / "cases").iterdir() if path.is_dir())


@dataclass(frozen=True, kw_only=True)
class Case:
    """One folder."""

    folder: Path

    @property
    def code(self) -> str:
        return self.folder.name.partition("_")[0]

    def subject(self, which: str) -> CheckContext:
        """The subject of the ``broken`` or the ``clean`` map."""
        options = self._options(which)
        given = parse_device_map(self._map_path(which, options).read_text(), "map.yaml")
        prepared = prepare(
            model_name(options["model"]),
            replace(given, versions=options.get("versions", {})),
            machine=_machine(options),
            main_device=options.get("main"),
            workload=Workload(batch=options.get("batch", 1), context=options.get("context", 4096)),
        )
        if "environment" in options:
            prepared = against(prepared, _environment(options["environment"]))
        return replace(
            prepared,
            installed=options.get("installed", {}),
            runs=tuple(record(RunRecord, run) for run in options.get("runs", ())),
            missed=tuple(record(MissedRun, each) for each in options.get("missed", ())),
        )

    def _map_path(self, which: str, options: dict[str, Any]) -> Path:
        if "map" in options:
            return HERE / "maps" / options["map"]
        return self.folder / ("map.yaml" if which == "broken" else "clean.yaml")

    def _options(self, which: str) -> dict[str, Any]:
        content = yaml.safe_load((self.folder / "case.yaml").read_text())
        own = content.pop(which, None) or {}
        content.pop("clean" if which == "broken" else "broken", None)
        return {**content, **own}


def model_name(model: str) -> str:
    """A folder of ``models/``, or what MODEL means."""
    folder = HERE / "models" / model
    return str(folder) if folder.is_dir() else model


def _environment(options: dict[str, Any]) -> Environment:
    fields = dict(options)
    cards = [card(index, **each) for index, each in enumerate(fields.pop("cards", ()))]
    return machine(*cards, **fields)


def _machine(options: dict[str, Any]):
    if "gpus" not in options:
        return None
    return parse_gpus(
        options["gpus"],
        reserve=options.get("reserve"),
        offload=tuple(options.get("offload", ())),
    )


def record(kind: Any, value: Any) -> Any:
    """A dataclass of ``devplan.core.findings`` from plain data; unknown fields are refused."""
    if value is None:
        return None
    if dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        return kind(**{name: record(hints[name], item) for name, item in value.items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return record(inner, value)
    if origin in (tuple, frozenset):
        return origin(record(arguments[0], item) for item in value)
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
