"""`DeviceMapFile` to and from the plain document (dicts, lists, numbers, text) of a map file.

The document is what YAML and JSON carry.  Its keys are those of ``devplan.mapfile.keys``; what
can be computed (headroom, gap) is written for readers of the file and left out on the way back.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from devplan.core import (
    Card,
    CardLoad,
    Certificate,
    Constraint,
    DeviceMapFile,
    Machine,
    ModelIdentity,
    OffloadTier,
    Pin,
    Relaxation,
    SharedCopies,
    Transfer,
    Verification,
    Workload,
    from_hf_device_map,
    order_entries,
    to_hf_device_map,
)
from devplan.mapfile.cost_document import (
    links_document,
    links_of,
    timing_document,
    timing_of,
    traffic_document,
    traffic_of,
)
from devplan.mapfile.environment_document import lock_document, lock_of
from devplan.mapfile.keys import PACKED, SCHEMA_VERSION, TILED


def to_document(map_file: DeviceMapFile) -> dict[str, Any]:
    """The plain document of a map, its keys in the order of the file."""
    main_device = map_file.machine.main_device
    return {
        "schema": SCHEMA_VERSION,
        "device_map": to_hf_device_map(order_entries(map_file.device_map, main_device)),
        "model": model_document(map_file.model),
        "machine": machine_document(map_file.machine),
        "workload": workload_document(map_file.workload),
        "main_device": main_device,
        "links": links_document(map_file.machine.links),
        "prediction": {load.device: _load_document(load) for load in map_file.loads},
        "offload_bytes": dict(map_file.offload_bytes),
        "pins": _pins_document(map_file.pins),
        "relaxed": [
            {"reason": each.reason, "blocks": list(each.blocks)} for each in map_file.relaxed
        ],
        "transfers": None
        if map_file.traffic is None
        else [
            {
                "source": each.source,
                "target": each.target,
                "before": each.before,
                "bytes_per_token": each.bytes_per_token,
            }
            for each in map_file.transfers
        ],
        "shared_copies": None
        if map_file.traffic is None
        else [
            {
                "source": each.source,
                "target": each.target,
                "num_copies": each.num_copies,
                "bytes_per_token": each.bytes_per_token,
            }
            for each in map_file.shared_copies
        ],
        "traffic": traffic_document(map_file.traffic, map_file.workload),
        "timing": timing_document(map_file.timing),
        "constraints": [
            {"change": each.change, "finding": each.finding} for each in map_file.constraints
        ],
        "certificate": _certificate_document(map_file.certificate),
        "verification": {
            "status": map_file.verification.status,
            "detail": map_file.verification.detail,
            **_runs_document(map_file.verification),
            "peak_bytes": dict(map_file.verification.peak_bytes),
            **_phases_document(map_file.verification),
        },
        "versions": dict(map_file.versions),
        **({"environment": lock_document(map_file.environment)} if map_file.environment else {}),
        "notes": list(map_file.notes),
    }


def _runs_document(verification: Verification) -> dict[str, Any]:
    """Nothing where nothing ran."""
    told = {"runs": list(verification.runs), "not_covered": verification.not_covered}
    return {name: value for name, value in told.items() if value}


def _phases_document(verification: Verification) -> dict[str, Any]:
    """Nothing of a model that has no phases of its own."""
    phases = {name: dict(peaks) for name, peaks in verification.phase_bytes.items()}
    return {"phase_bytes": phases} if phases else {}


def model_document(model: ModelIdentity) -> dict[str, Any]:
    """The section ``model``."""
    return {
        "id": model.id,
        "revision": model.revision,
        "config_hash": model.config_hash,
        "class": model.class_name,
        "auto_class": model.auto_class,
        "dtype": model.dtype,
        "quantization": model.quantization,
        "num_parameters": model.num_parameters,
        **({"components": list(model.components)} if model.components else {}),
        **({"repository": model.repository} if model.repository else {}),
        **({"weights": PACKED} if model.packed else {}),
    }


def machine_document(machine: Machine) -> dict[str, Any]:
    """The section ``machine``; the main device has its own key."""
    return {
        "cards": [
            {
                "device": card.device,
                "name": card.name,
                "capacity_bytes": card.capacity_bytes,
                "reserve_bytes": card.reserve_bytes,
            }
            for card in machine.cards
        ],
        "tiers": [
            {"device": tier.device, "capacity_bytes": tier.capacity_bytes} for tier in machine.tiers
        ],
    }


def workload_document(workload: Workload) -> dict[str, Any]:
    """The section ``workload``."""
    document = {
        "batch": workload.batch,
        "context_tokens": workload.context_tokens,
        "dtype": workload.dtype,
        "kv_dtype": workload.kv_dtype,
    }
    if workload.images is not None:
        document["images"] = workload.images
    if workload.image_size is not None:
        document["image_size"] = "{}x{}".format(*workload.image_size)
    if workload.frames is not None:
        document["frames"] = workload.frames
    if workload.tiling:
        document["tiling"] = TILED
    return document


def _load_document(load: CardLoad) -> dict[str, int | None]:
    return {
        "weights_bytes": load.weight_bytes,
        "buffers_bytes": load.buffer_bytes,
        "kv_cache_bytes": _counted(load, "cache_bytes"),
        "onload_bytes": load.onload_bytes,
        "activations_bytes": _counted(load, "activation_bytes"),
        "reserve_bytes": load.reserve_bytes,
        "headroom_bytes": load.headroom_bytes,
        "capacity_bytes": load.capacity_bytes,
    }


def _counted(load: CardLoad, name: str) -> int | None:
    return None if name in load.uncounted else getattr(load, name)


def _pins_document(pins: Iterable[Pin]) -> list[dict[str, Any]]:
    """Neighbours with one device and one reason share an item: a vision tower is one."""
    runs = groupby(pins, key=lambda pin: (pin.device, pin.reason))
    return [
        {"device": device, "reason": reason, "blocks": [pin.block for pin in run]}
        for (device, reason), run in runs
    ]


def _certificate_document(certificate: Certificate) -> dict[str, Any]:
    return {
        "objective": certificate.objective,
        "bottleneck": float(certificate.bottleneck),
        "lower_bound": float(certificate.lower_bound),
        "gap": float(certificate.gap),
        "solver": certificate.solver,
        "optimal_within": certificate.optimal_within,
        "most_tokens": certificate.most_tokens,
        "most_tokens_bound": certificate.most_tokens_bound,
        "first_full": certificate.first_full,
    }


def from_document(document: dict[str, Any]) -> DeviceMapFile:
    """The map of a document that has been checked."""
    return DeviceMapFile(
        device_map=from_hf_device_map(document["device_map"]),
        model=_model(document["model"]),
        machine=_machine(document),
        workload=_workload(document["workload"]),
        loads=tuple(_load(device, load) for device, load in document["prediction"].items()),
        offload_bytes=document["offload_bytes"],
        certificate=_certificate(document["certificate"]),
        pins=tuple(
            Pin(block=block, device=item["device"], reason=item["reason"])
            for item in document["pins"]
            for block in item["blocks"]
        ),
        relaxed=tuple(
            Relaxation(blocks=tuple(item["blocks"]), reason=item["reason"])
            for item in document["relaxed"]
        ),
        transfers=tuple(Transfer(**item) for item in document["transfers"] or ()),
        shared_copies=tuple(SharedCopies(**item) for item in document["shared_copies"] or ()),
        traffic=traffic_of(document["traffic"]),
        timing=timing_of(document["timing"]),
        constraints=tuple(Constraint(**item) for item in document["constraints"]),
        verification=_verification(document["verification"]),
        versions=document["versions"],
        environment=lock_of(document["environment"]),
        notes=tuple(document["notes"]),
    )


def _model(section: dict[str, Any]) -> ModelIdentity:
    fields = dict(section)
    components = tuple(fields.pop("components") or ())
    packed = fields.pop("weights") == PACKED
    class_name = fields.pop("class")
    return ModelIdentity(class_name=class_name, components=components, packed=packed, **fields)


def _workload(section: dict[str, Any]) -> Workload:
    fields = dict(section)
    size, tiling = fields.pop("image_size"), fields.pop("tiling")
    image_size = tuple(map(int, size.split("x"))) if size else None
    return Workload(image_size=image_size, tiling=tiling == TILED, **fields)


def _verification(section: dict[str, Any]) -> Verification:
    fields = dict(section)
    return Verification(
        phase_bytes=fields.pop("phase_bytes") or {},
        runs=tuple(fields.pop("runs") or ()),
        not_covered=fields.pop("not_covered") or "",
        **fields,
    )


def _machine(document: dict[str, Any]) -> Machine:
    return Machine(
        cards=tuple(Card(**card) for card in document["machine"]["cards"]),
        main_device=document["main_device"],
        tiers=tuple(OffloadTier(**tier) for tier in document["machine"]["tiers"]),
        links=links_of(document["links"]),
    )


def _load(device: str, section: dict[str, int | None]) -> CardLoad:
    parts = {"cache_bytes": "kv_cache_bytes", "activation_bytes": "activations_bytes"}
    return CardLoad(
        uncounted=tuple(name for name, key in parts.items() if section[key] is None),
        device=device,
        weight_bytes=section["weights_bytes"],
        buffer_bytes=section["buffers_bytes"],
        cache_bytes=section["kv_cache_bytes"] or 0,
        onload_bytes=section["onload_bytes"],
        activation_bytes=section["activations_bytes"] or 0,
        reserve_bytes=section["reserve_bytes"],
        capacity_bytes=section["capacity_bytes"],
    )


def _certificate(section: dict[str, Any]) -> Certificate:
    return Certificate(**{name: value for name, value in section.items() if name != "gap"})
