"""The part of the table of keys that is about time: links, transfers, traffic, timing."""

from __future__ import annotations

from devplan.mapfile.shape import ListOf, Nullable, Optional, TableOf, Text, Whole
from devplan.mapfile.values import BYTES, DEVICE, MODULE, SECONDS, record

LINKS = ListOf(
    item=record(
        ("name", "What joins them, in words.", Text()),
        ("bytes_per_s", "Of copies in one direction.", Whole(minimum=1)),
        ("latency_s", "Of the smallest copy.", SECONDS),
        (
            "basis",
            "Who says so: given, measured, catalogue or assumed.",
            Text(
                expected="given, measured, catalogue or assumed",
                choices=("given", "measured", "catalogue", "assumed"),
            ),
        ),
        (
            "between",
            "The pairs of devices that have such a link.",
            ListOf(
                item=Text(
                    expected="two devices with a blank between them",
                    pattern=r"^[a-z]+(:\d+)? [a-z]+(:\d+)?$",
                ),
                min_items=1,
            ),
        ),
    )
)

TRANSFERS = Nullable(
    inner=ListOf(
        item=record(
            ("source", "Device that the activations leave.", DEVICE),
            ("target", "Device that they enter.", DEVICE),
            ("before", "Block that receives them.", MODULE),
            ("bytes_per_token", "For one token of one sequence.", BYTES),
        )
    )
)

SHARED_COPIES = Nullable(
    inner=ListOf(
        item=record(
            ("source", "Device where the activations are made.", DEVICE),
            ("target", "Device of the blocks that they are copied to.", DEVICE),
            ("num_copies", "One for each tensor and block, in every forward.", Whole()),
            ("bytes_per_token", "Of all copies together, for one token of one sequence.", BYTES),
        )
    )
)

_STEP_TOTAL = record(
    ("num_copies", "Copies in the step.", Whole()),
    ("bytes", "Of all copies together.", BYTES),
    ("seconds", "What they take over their links, one after the other.", SECONDS),
    (
        "bytes_per_token",
        "bytes over the tokens of all sequences that enter the step; null: not known how many.",
        Nullable(inner=SECONDS),
    ),
    ("seconds_per_token", "seconds over the same tokens.", Nullable(inner=SECONDS)),
)

TRAFFIC = Nullable(
    inner=record(
        (
            "basis",
            "run: every copy of the virtual run; graph: what enters the blocks, as no run counted.",
            Text(expected="run or graph", choices=("run", "graph")),
        ),
        (
            "prompt_tokens",
            "Text tokens of each sequence in the prefill; null: the inputs were the user's.",
            Nullable(inner=Whole(minimum=1)),
        ),
        ("prefill", "All copies of a prefill.", _STEP_TOTAL),
        ("decode", "All copies of a decode step; nothing where there is none.", _STEP_TOTAL),
        ("run", "All copies of a pipeline's run of three steps.", Optional(inner=_STEP_TOTAL)),
        (
            "routes",
            "The same from device to device.",
            ListOf(
                item=record(
                    (
                        "step",
                        "prefill or decode, run of a pipeline.",
                        Text(
                            expected="prefill, decode or run", choices=("prefill", "decode", "run")
                        ),
                    ),
                    ("source", "Device that is copied from.", DEVICE),
                    ("target", "Device that is copied to.", DEVICE),
                    ("num_copies", "Copies in the step.", Whole()),
                    ("num_bytes", "Of all of them together.", BYTES),
                    ("link", "Name of the link that they take.", Text()),
                    ("seconds", "What they take.", SECONDS),
                )
            ),
        ),
    )
)

_BY_STEP = (
    ("prefill_s", "In a prefill.", SECONDS),
    ("decode_s", "In a decode step.", SECONDS),
)

TIMING = Nullable(
    inner=record(
        ("basis", "How it was come by: predicted, unmeasured.", Text()),
        ("prompt_tokens", "Text tokens of each sequence in the prefill.", Whole(minimum=1)),
        ("new_tokens", "Tokens that a request makes.", Whole(minimum=1)),
        ("prefill_s", "A prefill: work of all cards and transfers.", SECONDS),
        ("decode_step_s", "A decode step with a full cache; a token of each sequence.", SECONDS),
        ("request_s", "A prefill and the decode steps for the new tokens.", SECONDS),
        (
            "lower_bound_s",
            "No placement with the same blocks offloaded takes less for a request.",
            SECONDS,
        ),
        ("cards", "Work of each card.", TableOf(key=DEVICE, value=record(*_BY_STEP))),
        ("transfers", "Transfers between the devices.", record(*_BY_STEP)),
    )
)
