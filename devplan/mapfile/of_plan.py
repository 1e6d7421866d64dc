"""A plan to a map file: the entries of the map, and everything that the plan was made for.

A placement names every block of the model.  A map may name a module instead, which then holds for
everything inside it: ``model.visual: 0`` replaces 35 lines.  A module becomes one entry only when
*all* blocks inside it are on one device; the placement is the complete list of blocks, so nothing
that must stay split is ever joined.  A stack of layers on two GPUs therefore keeps one line per
layer.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

from devplan import __version__
from devplan.core import (
    Constraint,
    DeviceMapFile,
    Machine,
    ModelIdentity,
    Placement,
    Plan,
    Verification,
    Workload,
    main_device_notes,
    prefixes,
)

UNVERIFIED = Verification(
    status="unverified", detail="planned from sizes and virtual runs on one GPU; not run as split"
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
    """The content of the map file of a plan."""
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


def installed_versions(library: str) -> dict[str, str]:
    """Versions that a map of a model of `library` depends on."""
    names = ["torch", "transformers", "accelerate", *(["diffusers"] * (library == "diffusers"))]
    return {"devplan": __version__, **{name: _release(name) for name in names}}


def _release(name: str) -> str:
    """Without the local part: builds of torch for different CUDA versions give equal maps."""
    return importlib.metadata.version(name).partition("+")[0]


def contract_entries(placement: Placement) -> dict[str, str]:
    """The shortest map without overlaps that places every block as `placement` does.

    The entries are in the order of the blocks; there is only ``""`` where all are on one device.

    >>> contract_entries({"a.0": "cuda:0", "a.1": "cuda:0", "b": "cuda:1"})
    {'a': 'cuda:0', 'b': 'cuda:1'}
    """
    inside = _devices_inside(placement)
    entries: dict[str, str] = {}
    for block, device in placement.items():
        outermost_first = reversed(list(prefixes(block)))
        # A block around other blocks (rare) may be on another device: it gets its own entry.
        entry = next((name for name in outermost_first if inside[name] == {device}), block)
        entries[entry] = device
    return entries


def _devices_inside(placement: Placement) -> dict[str, set[str]]:
    """Module -> the devices of all blocks inside it; ``""`` is the whole model."""
    inside: dict[str, set[str]] = {}
    for block, device in placement.items():
        for module in prefixes(block):
            inside.setdefault(module, set()).add(device)
    return inside


def covering_modules(names: Iterable[str], block_names: Iterable[str]) -> list[str]:
    """The fewest modules that hold exactly the blocks `names`, out of all `block_names`."""
    chosen = set(names)
    marked = {block: "in" if block in chosen else "out" for block in block_names}
    return [entry for entry, mark in contract_entries(marked).items() if mark == "in"]
