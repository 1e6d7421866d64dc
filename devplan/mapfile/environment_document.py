"""The section ``environment``, which ``devplan lock`` writes: its keys, and both directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from devplan.core import Lock, LockedCard
from devplan.mapfile.shape import ListOf, Nullable, Optional, TableOf, Text, Whole
from devplan.mapfile.values import DEVICE, record

ENVIRONMENT = Optional(
    inner=record(
        (
            "cards",
            "The GPUs that were there; empty: locked without GPUs, to versions only.",
            ListOf(
                item=record(
                    ("device", "The card's device.", DEVICE),
                    ("name", "As the driver calls it.", Text()),
                    ("capacity_bytes", "What torch can allocate of it.", Whole(minimum=1)),
                    ("uuid", "The very card, null where it is not known.", Nullable(inner=Text())),
                    (
                        "compute_capability",
                        "Such as '8.9', null where it is not known.",
                        Nullable(
                            inner=Text(
                                expected="a compute capability: '8.9'", pattern=r"^\d+\.\d+$"
                            )
                        ),
                    ),
                )
            ),
        ),
        ("driver", "Version of the driver, null without one.", Nullable(inner=Text())),
        ("cuda", "The CUDA that torch was built with, null for none.", Nullable(inner=Text())),
        ("python", "Version of Python.", Text()),
        (
            "versions",
            "Versions of the libraries, with their local part.",
            TableOf(key=Text(expected="the name of a library"), value=Text()),
        ),
    )
)

Refuse = Callable[[tuple[str | int, ...], str], None]


def lock_document(lock: Lock) -> dict[str, Any]:
    """The section of a lock."""
    return {
        "cards": [
            {
                "device": card.device,
                "name": card.name,
                "capacity_bytes": card.capacity_bytes,
                "uuid": card.uuid,
                "compute_capability": card.compute_capability
                and ".".join(map(str, card.compute_capability)),
            }
            for card in lock.cards
        ],
        "driver": lock.driver,
        "cuda": lock.cuda,
        "python": lock.python,
        "versions": dict(lock.versions),
    }


def lock_of(section: dict[str, Any] | None) -> Lock | None:
    """The lock of a section; None where the map has none."""
    if section is None:
        return None
    fields = dict(section)
    return Lock(cards=tuple(map(_card, fields.pop("cards"))), **fields)


def _card(section: dict[str, Any]) -> LockedCard:
    fields = dict(section)
    stated = fields.pop("compute_capability")
    capability = tuple(map(int, stated.split("."))) if stated else None
    return LockedCard(compute_capability=capability, **fields)


def check_lock(document: dict[str, Any], known: list[str], refuse: Refuse) -> None:
    """Refuse a lock to cards that the machine of the map does not have."""
    section = document.get("environment")
    for index, card in enumerate(section["cards"] if section else ()):
        if card["device"] not in known:
            refuse(
                ("environment", "cards", index),
                f"the map is locked to {card['device']}, which is no card of its machine; "
                f"it has {', '.join(known)}; lock it again with `devplan lock`",
            )
