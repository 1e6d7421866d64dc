"""A plan to a map file: the entries, and everything that the plan was made for."""

from __future__ import annotations

from devplan.core import (
    Constraint,
    DeviceMapFile,
    Machine,
    ModelIdentity,
    Plan,
    Verification,
    Workload,
    main_device_notes,
)
from devplan.mapfile.entries import contract_entries
from devplan.mapfile.versions import installed_versions

UNVERIFIED = Verification(
    status="unverified", detail="planned from sizes and virtual runs on one card; not run as split"
)


def map_file_of(
    plan: Plan,
    machine: Machine,
    workload: Workload,
    identity: ModelIdentity,
    *,
    verification: Verification = UNVERIFIED,
    constraints: tuple[Constraint, ...] = (),
    library: str = "transformers",
    notes: tuple[str, ...] = (),
) -> DeviceMapFile:
    """A plan with everything that it was made for."""
    return DeviceMapFile(
        device_map=contract_entries(plan.placement),
        model=identity,
        machine=machine,
        workload=workload,
        loads=plan.loads,
        offload_bytes=plan.offload_bytes,
        certificate=plan.certificate,
        pins=plan.pins,
        relaxed=plan.relaxed,
        transfers=plan.transfers,
        shared_copies=plan.shared_copies,
        traffic=plan.traffic,
        timing=plan.timing,
        constraints=constraints,
        verification=verification,
        versions=installed_versions(library),
        notes=(*plan.notes, *main_device_notes(plan.placement.values(), machine), *notes),
    )
