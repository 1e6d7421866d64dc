"""The report of `devplan doctor --json`: one object, for programs.

Keys are added, never renamed or taken away, within one schema version.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from devplan.core import DeviceMapFile, Environment, Finding, Severity
from devplan.mapfile import SCHEMA_VERSION, lock_document
from devplan.report.tables import report_json


def doctor_json(
    environment: Environment,
    found: Sequence[Finding],
    *,
    map_file: DeviceMapFile | None = None,
    map_name: str | None = None,
    remapped_to: str | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The machine, the map's name and lock, the differences, and whether one matters."""
    lock = map_file.environment if map_file else None
    return report_json(
        {
            "schema": SCHEMA_VERSION,
            "fits": None
            if map_file is None
            else not any(each.severity is Severity.ERROR for each in found),
            "map": map_name,
            "lock": lock_document(lock) if lock else None,
            "remapped_to": remapped_to,
            "differences": [difference_document(each) for each in found],
            "environment": environment_document(environment),
            "notes": [*environment.notes, *notes],
        }
    )


def difference_document(difference: Finding) -> dict[str, Any]:
    """One difference."""
    return {
        "code": difference.code,
        "severity": difference.severity.value,
        "subject": difference.module,
        "message": difference.message,
        "planned": difference.planned,
        "present": difference.found,
        "remedy": difference.fix.text,
    }


def environment_document(environment: Environment) -> dict[str, Any]:
    """The machine; pairs of devices are written with a blank between them, as in a map."""
    document = asdict(environment)
    document["peers"] = [
        {"source": a, "target": b, "access": access} for (a, b), access in environment.peers.items()
    ]
    document["links"] = [asdict(link) for link in environment.links]
    del document["notes"]
    return document
