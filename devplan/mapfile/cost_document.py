"""Links, traffic and timing to and from the plain document of a map file.

Sums are written for readers of the file and left out on the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from math import isclose
from typing import Any

from devplan.core import (
    DECODE,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    CardTime,
    Link,
    Route,
    Timing,
    Traffic,
    Workload,
)

BASIS = "predicted, unmeasured"

Refuse = Callable[[tuple[str | int, ...], str], None]


def links_document(links: tuple[Link, ...]) -> list[dict[str, Any]]:
    """Neighbours of one kind share an item."""
    runs = groupby(
        links, key=lambda link: (link.name, link.bytes_per_s, link.latency_s, link.basis)
    )
    return [
        {
            "name": name,
            "bytes_per_s": bytes_per_s,
            "latency_s": latency_s,
            "basis": basis,
            "between": [f"{link.source} {link.target}" for link in run],
        }
        for (name, bytes_per_s, latency_s, basis), run in runs
    ]


def links_of(section: list[dict[str, Any]]) -> tuple[Link, ...]:
    return tuple(
        Link(
            source=pair.split()[0],
            target=pair.split()[1],
            **{key: item[key] for key in ("name", "bytes_per_s", "latency_s", "basis")},
        )
        for item in section
        for pair in item["between"]
    )


def traffic_document(traffic: Traffic | None, workload: Workload) -> dict[str, Any] | None:
    """The section ``traffic``."""
    if traffic is None:
        return None
    totals = {}
    steps = (*STEPS, WHOLE_RUN) if traffic.of(WHOLE_RUN) else STEPS
    for step in steps:
        each = 1 if step == DECODE else traffic.prompt_tokens
        tokens = None if each is None else workload.batch * each
        size, seconds = traffic.num_bytes(step), float(traffic.seconds(step))
        totals[step] = {
            "num_copies": traffic.num_copies(step),
            "bytes": size,
            "seconds": seconds,
            "bytes_per_token": tokens and size / tokens,
            "seconds_per_token": tokens and seconds / tokens,
        }
    return {
        "basis": traffic.basis,
        "prompt_tokens": traffic.prompt_tokens,
        **totals,
        "routes": [
            {
                "step": each.step,
                "source": each.source,
                "target": each.target,
                "num_copies": each.num_copies,
                "num_bytes": each.num_bytes,
                "link": each.link,
                "seconds": each.seconds,
            }
            for each in traffic.routes
        ],
    }


def traffic_of(section: dict[str, Any] | None) -> Traffic | None:
    if section is None:
        return None
    return Traffic(
        basis=section["basis"],
        prompt_tokens=section["prompt_tokens"],
        routes=tuple(Route(**item) for item in section["routes"]),
    )


def timing_document(timing: Timing | None) -> dict[str, Any] | None:
    """The section ``timing``."""
    if timing is None:
        return None
    return {
        "basis": BASIS,
        "prompt_tokens": timing.prompt_tokens,
        "new_tokens": timing.new_tokens,
        "prefill_s": timing.step_s(PREFILL),
        "decode_step_s": timing.step_s(DECODE),
        "request_s": timing.request_s,
        "lower_bound_s": timing.lower_bound_s,
        "cards": {
            card.device: {"prefill_s": card.prefill_s, "decode_s": card.decode_s}
            for card in timing.cards
        },
        "transfers": {f"{step}_s": timing.transfer_s[step] for step in STEPS},
    }


def timing_of(section: dict[str, Any] | None) -> Timing | None:
    if section is None:
        return None
    return Timing(
        prompt_tokens=section["prompt_tokens"],
        new_tokens=section["new_tokens"],
        cards=tuple(CardTime(device=d, **times) for d, times in section["cards"].items()),
        transfer_s={step: section["transfers"][f"{step}_s"] for step in STEPS},
        lower_bound_s=section["lower_bound_s"],
    )


# ------------------------------------------------------------------------------ consistency


def check_costs(document: dict[str, Any], known: list[str], refuse: Refuse) -> None:
    """Refuse links of devices that the machine does not have, and sums that are none."""
    for index, item in enumerate(document["links"]):
        for pair in item["between"]:
            strange = [device for device in pair.split() if device not in (*known, "cpu")]
            if strange:
                refuse(
                    ("links", index, "between"),
                    f"a link of {strange[0]}, which the machine does not have; it has "
                    f"{', '.join(known)}",
                )
    _check_traffic(document["traffic"], refuse)
    _check_timing(document["timing"], refuse)


def _check_traffic(section: dict[str, Any] | None, refuse: Refuse) -> None:
    traffic = traffic_of(section)
    steps = (*STEPS, WHOLE_RUN) if traffic and section.get("run") else STEPS
    for step in steps if traffic else ():
        counted = {"num_copies": traffic.num_copies(step), "bytes": traffic.num_bytes(step)}
        for key, total in counted.items():
            if section[step][key] != total:
                refuse(
                    ("traffic", step, key),
                    f"{key} is {section[step][key]}, but the routes of the {step} add up to "
                    f"{total}; correct one of them",
                )


def _check_timing(section: dict[str, Any] | None, refuse: Refuse) -> None:
    timing = timing_of(section)
    if timing is None:
        return
    counted = {
        "prefill_s": timing.step_s(PREFILL),
        "decode_step_s": timing.step_s(DECODE),
        "request_s": timing.request_s,
    }
    for key, total in counted.items():
        if not isclose(section[key], total, rel_tol=1e-6, abs_tol=1e-12):
            refuse(
                ("timing", key),
                f"{key} is {section[key]}, but cards and transfers add up to {total}; correct one "
                "of them",
            )
