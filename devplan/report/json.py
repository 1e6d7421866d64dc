"""The report of `devplan suggest --json`: one object, for programs.

Its keys are those of the map file and a few more; ``docs/map-file.md`` lists them.  Keys are
added, never renamed or taken away, within one schema version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

from devplan.core import DeviceMapFile, Infeasible, Machine, ModelIdentity, Plan, Workload
from devplan.io import json_text
from devplan.mapfile import (
    SCHEMA_VERSION,
    import_lines,
    load_line,
    machine_document,
    model_document,
    to_document,
    workload_document,
)


def plan_json(
    plan: Plan, map_file: DeviceMapFile, map_path: str | PurePath, *, written: bool = True
) -> str:
    """Report of a plan as JSON text.

    Parameters
    ----------
    map_path
        Where the map is, as Python will open it.
    written
        Whether the file is there; otherwise ``map_path`` is null in the report.
    """
    shown = map_path.as_posix() if isinstance(map_path, PurePath) else map_path
    report = {"status": "plan", **to_document(map_file)}
    report["stages"] = [
        {"device": stage.device, "blocks": list(stage.blocks)} for stage in plan.stages
    ]
    report["contiguous"] = plan.contiguous
    report["map_path"] = shown if written else None
    report["load"] = {"imports": import_lines(map_file), "line": load_line(map_file, shown)}
    return _text(report)


def infeasible_json(
    infeasible: Infeasible,
    model: ModelIdentity,
    machine: Machine,
    workload: Workload,
    notes: Sequence[str] = (),
) -> str:
    """Report of a plan that does not exist as JSON text."""
    bound = infeasible.lower_bound
    report = {
        "status": "infeasible",
        "schema": SCHEMA_VERSION,
        "model": model_document(model),
        "machine": machine_document(machine),
        "workload": workload_document(workload),
        "main_device": machine.main_device,
        "reason": infeasible.reason,
        "shortfalls": [
            {"device": each.device, "missing_bytes": each.missing_bytes}
            for each in infeasible.shortfalls
        ],
        "lower_bound": bound if math.isfinite(bound) else None,
        "proven": infeasible.proven,
        "remedies": [remedy.change for remedy in infeasible.remedies],
        "notes": list(notes),
    }
    return _text(report)


def _text(report: dict[str, Any]) -> str:
    return json_text(report, allow_nan=False)
