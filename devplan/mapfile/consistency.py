"""Values of a map file that must agree with each other, which no schema can express.

Most checks find files that were edited by hand in one place of two: an entry on a card that the
machine does not have, bytes that no longer add up.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from typing import Any

from devplan.core import (
    DECODE,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    InputError,
    from_hf_device,
    full_dtype_name,
    read_quantize,
)
from devplan.mapfile.document import from_plain
from devplan.mapfile.plan_keys import TIMING, TRAFFIC

_PARTS = (
    "weights_bytes",
    "buffers_bytes",
    "kv_cache_bytes",
    "onload_bytes",
    "activations_bytes",
    "reserve_bytes",
)

# The gap is written in full; the tolerance only forgives a reader's other last digit.
_GAP_TOLERANCE = 1e-9

Refuse = Callable[[tuple[str | int, ...], str], None]


def check_consistency(document: dict[str, Any], refuse: Refuse) -> None:
    """Refuse a document whose values contradict each other, at the first contradiction.

    `refuse` takes the path of a value and a message; it raises.
    """
    _check_quantize(document["model"], refuse)
    _check_machine(document["machine"], refuse)
    _check_workload(document["workload"], refuse)
    _check_devices(document, refuse)
    _check_prediction(document, refuse)
    cards = [card["device"] for card in document["machine"]["cards"]]
    _check_links(document, cards, refuse)
    _check_traffic(document["traffic"], refuse)
    _check_timing(document["timing"], refuse)
    _check_lock(document, cards, refuse)
    _check_gap(document["certificate"], refuse)


def _check_quantize(model: dict[str, Any], refuse: Refuse) -> None:
    if model.get("quantize") is None:
        return
    try:
        read_quantize("quantize", model["quantize"])
    except InputError as error:
        refuse(("model", "quantize"), str(error))


def _check_machine(machine: dict[str, Any], refuse: Refuse) -> None:
    seen: set[str] = set()
    for kind in ("cards", "tiers"):
        for index, item in enumerate(machine[kind]):
            path = ("machine", kind, index)
            if item["device"] in seen:
                refuse(path, f"{item['device']} is in the machine twice; remove one")
            seen.add(item["device"])
    for index, card in enumerate(machine["cards"]):
        if card["reserve_bytes"] >= card["capacity_bytes"]:
            refuse(
                ("machine", "cards", index, "reserve_bytes"),
                f"the reserve of {card['device']} ({card['reserve_bytes']} bytes) leaves nothing "
                f"of its {card['capacity_bytes']} bytes; lower it",
            )


def _check_workload(workload: dict[str, Any], refuse: Refuse) -> None:
    for key in ("dtype", "kv_dtype"):
        try:
            full_dtype_name(workload[key] or "bfloat16")
        except InputError as error:
            refuse(("workload", key), str(error))


def _check_devices(document: dict[str, Any], refuse: Refuse) -> None:
    """Every device that is named belongs to the machine."""
    cards = [card["device"] for card in document["machine"]["cards"]]
    known = cards + [tier["device"] for tier in document["machine"]["tiers"]]
    for entry, value in document["device_map"].items():
        device = from_hf_device(value)
        if device not in known:
            refuse(
                ("device_map", entry),
                f"entry {entry!r} is on {device}, which the machine does not have; "
                f"it has {', '.join(known)}",
            )
    if document["main_device"] not in cards:
        refuse(
            ("main_device",),
            f"main_device is {document['main_device']}, which is not a GPU of the machine; "
            f"it has {', '.join(cards)}",
        )
    for device in document["prediction"]:
        if device not in cards:
            refuse(
                ("prediction", device), f"prediction for {device}, which is not a GPU; remove it"
            )


def _check_prediction(document: dict[str, Any], refuse: Refuse) -> None:
    cards = {card["device"]: card for card in document["machine"]["cards"]}
    for device, load in document["prediction"].items():
        path = ("prediction", device)
        for key in ("reserve_bytes", "capacity_bytes"):
            if load[key] != cards[device][key]:
                refuse(
                    (*path, key),
                    f"{key} of {device} is {load[key]} here and {cards[device][key]} in machine; "
                    "make them equal",
                )
        left = load["capacity_bytes"] - sum(load[part] or 0 for part in _PARTS)
        if load["headroom_bytes"] != left:
            refuse(
                (*path, "headroom_bytes"),
                f"headroom_bytes of {device} is {load['headroom_bytes']}, but capacity less all "
                f"parts is {left}; correct one of them",
            )


def _check_links(document: dict[str, Any], known: list[str], refuse: Refuse) -> None:
    """Refuse links of devices that the machine does not have."""
    for index, item in enumerate(document["links"]):
        for pair in item["between"]:
            strange = [device for device in pair.split() if device not in (*known, "cpu")]
            if strange:
                refuse(
                    ("links", index, "between"),
                    f"a link of {strange[0]}, which the machine does not have; it has "
                    f"{', '.join(known)}",
                )


def _check_traffic(section: dict[str, Any] | None, refuse: Refuse) -> None:
    """Refuse totals that are not the sums of the routes."""
    if section is None:
        return
    traffic = from_plain(TRAFFIC, section)
    for step in (*STEPS, WHOLE_RUN) if section.get("run") else STEPS:
        counted = {"num_copies": traffic.num_copies(step), "bytes": traffic.num_bytes(step)}
        for key, total in counted.items():
            if section[step][key] != total:
                refuse(
                    ("traffic", step, key),
                    f"{key} is {section[step][key]}, but the routes of the {step} add up to "
                    f"{total}; correct one of them",
                )


def _check_timing(section: dict[str, Any] | None, refuse: Refuse) -> None:
    """Refuse times that are not the sums of cards and transfers."""
    if section is None:
        return
    timing = from_plain(TIMING, section)
    counted = {
        "prefill_s": timing.step_s(PREFILL),
        "decode_step_s": timing.step_s(DECODE),
        "request_s": timing.request_s,
    }
    for key, total in counted.items():
        if not isclose(section[key], total, rel_tol=1e-6, abs_tol=1e-12):
            refuse(
                ("timing", key),
                f"{key} is {section[key]}, but GPUs and transfers add up to {total}; correct one "
                "of them",
            )


def _check_lock(document: dict[str, Any], known: list[str], refuse: Refuse) -> None:
    """Refuse a lock to cards that the machine of the map does not have."""
    section = document.get("environment")
    for index, card in enumerate(section["cards"] if section else ()):
        if card["device"] not in known:
            refuse(
                ("environment", "cards", index),
                f"the map is locked to {card['device']}, which is not a GPU of its machine; "
                f"it has {', '.join(known)}; lock it again with `devplan lock`",
            )


def _check_gap(certificate: dict[str, Any], refuse: Refuse) -> None:
    bound = certificate["lower_bound"]
    gap = certificate["bottleneck"] / bound - 1 if bound else 0.0
    if abs(certificate["gap"] - gap) > _GAP_TOLERANCE:
        refuse(
            ("certificate", "gap"),
            f"gap is {certificate['gap']}, but bottleneck / lower_bound - 1 is {gap}; correct it",
        )
