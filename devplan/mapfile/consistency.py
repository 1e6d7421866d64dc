"""What no schema can say: values of a map file that must agree with each other.

Most of it catches files that were edited by hand in one place of two: an entry that lies on a
card which the machine does not have, bytes that no longer add up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devplan.core import InputError, from_hf_device
from devplan.mapfile.cost_document import check_costs
from devplan.mapfile.environment_document import check_lock
from devplan.mapfile.nodes import Path, Place

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

Refuse = Callable[[Path, str], None]


def check_consistency(document: dict[str, Any], place: Place) -> None:
    """Refuse a document whose values contradict each other.

    Raises
    ------
    InputError
        With file, line and remedy, at the first contradiction.
    """

    def refuse(path: Path, message: str) -> None:
        raise InputError(f"{place.file}:{place.lines[path]}: {message}")

    _check_machine(document["machine"], refuse)
    _check_devices(document, refuse)
    _check_prediction(document, refuse)
    cards = [card["device"] for card in document["machine"]["cards"]]
    check_costs(document, cards, refuse)
    check_lock(document, cards, refuse)
    _check_gap(document["certificate"], refuse)


def _check_machine(machine: dict[str, Any], refuse: Refuse) -> None:
    seen: set[str] = set()
    for kind in ("cards", "tiers"):
        for index, item in enumerate(machine[kind]):
            path = ("machine", kind, index)
            if item["device"] in seen:
                refuse(path, f"{item['device']} stands in the machine twice; remove one")
            seen.add(item["device"])
    for index, card in enumerate(machine["cards"]):
        if card["reserve_bytes"] >= card["capacity_bytes"]:
            refuse(
                ("machine", "cards", index, "reserve_bytes"),
                f"the reserve of {card['device']} ({card['reserve_bytes']} bytes) leaves nothing "
                f"of its {card['capacity_bytes']} bytes; lower it",
            )


def _check_devices(document: dict[str, Any], refuse: Refuse) -> None:
    """Every device that is named belongs to the machine."""
    cards = [card["device"] for card in document["machine"]["cards"]]
    known = cards + [tier["device"] for tier in document["machine"]["tiers"]]
    for entry, value in document["device_map"].items():
        device = from_hf_device(value)
        if device not in known:
            refuse(
                ("device_map", entry),
                f"entry {entry!r} lies on {device}, which the machine does not have; "
                f"it has {', '.join(known)}",
            )
    if document["main_device"] not in cards:
        refuse(
            ("main_device",),
            f"main_device is {document['main_device']}, which is no card of the machine; "
            f"it has {', '.join(cards)}",
        )
    for device in document["prediction"]:
        if device not in cards:
            refuse(("prediction", device), f"prediction for {device}, which is no card; remove it")


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


def _check_gap(certificate: dict[str, Any], refuse: Refuse) -> None:
    bound = certificate["lower_bound"]
    gap = certificate["bottleneck"] / bound - 1 if bound else 0.0
    if abs(certificate["gap"] - gap) > _GAP_TOLERANCE:
        refuse(
            ("certificate", "gap"),
            f"gap is {certificate['gap']}, but bottleneck / lower_bound - 1 is {gap}; correct it",
        )
