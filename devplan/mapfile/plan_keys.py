"""The part of the table of keys that describes the plan: links, prediction, pins, times, proofs."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from devplan.core import (
    DECODE,
    PREFILL,
    STEPS,
    WHOLE_RUN,
    CardTime,
    Certificate,
    Constraint,
    DeviceMemory,
    Link,
    Pin,
    Relaxation,
    Route,
    SharedCopies,
    Timing,
    Traffic,
    Transfer,
    Verification,
)
from devplan.mapfile.shape import (
    BYTES,
    DEVICE,
    MODULE,
    SECONDS,
    TEXT,
    WHOLE,
    Coded,
    Key,
    ListOf,
    Nullable,
    Number,
    Optional,
    TableOf,
    Text,
    Whole,
    choice,
    record,
)

# -------------------------------------------------------------------------------------------- links

PAIR = Text(
    expected="two devices with a blank between them", pattern=r"^[a-z]+(:\d+)? [a-z]+(:\d+)?$"
)


def _grouped_links(links: tuple[Link, ...]) -> list[dict[str, Any]]:
    """Neighbors of one kind share an item."""
    fields = ("name", "bytes_per_s", "latency_s", "basis")
    runs = groupby(links, key=lambda link: {name: getattr(link, name) for name in fields})
    return [{**kind, "between": [f"{x.source} {x.target}" for x in run]} for kind, run in runs]


def _links_of(groups: tuple[dict[str, Any], ...]) -> tuple[Link, ...]:
    pairs = [(pair.split(), group) for group in groups for pair in group.pop("between")]
    return tuple(Link(source=source, target=target, **g) for (source, target), g in pairs)


LINK = record(
    dict,
    Key("name", TEXT, "What joins them, in words."),
    Key("bytes_per_s", Whole(minimum=1), "Of copies in one direction."),
    Key("latency_s", SECONDS, "Of the smallest copy."),
    Key(
        "basis",
        choice("given", "measured", "catalogue", "assumed"),
        "Where the figure comes from: given, measured, catalogue or assumed.",
    ),
    Key("between", ListOf(PAIR, min_items=1), "The pairs of devices that have such a link."),
)
LINKS = Coded(ListOf(LINK), encode=_grouped_links, decode=_links_of)

# --------------------------------------------------------------------------------------- prediction


def _card_load(**fields: Any) -> DeviceMemory:
    uncounted = tuple(name for name, value in fields.items() if value is None)
    return DeviceMemory(uncounted=uncounted, **{**fields, **dict.fromkeys(uncounted, 0)})


def _load_values(load: DeviceMemory) -> dict[str, Any]:
    uncounted = dict.fromkeys(load.uncounted)
    return {**vars(load), "headroom_bytes": load.headroom_bytes, **uncounted}


CARD_LOAD = record(
    _card_load,
    Key("weights_bytes", BYTES, "Parameters.", field="weight_bytes"),
    Key("buffers_bytes", BYTES, "Buffers.", field="buffer_bytes"),
    Key(
        "kv_cache_bytes",
        Nullable(BYTES),
        "KV cache and other state at the workload; null: not counted, as nothing ran.",
        field="cache_bytes",
    ),
    Key("onload_bytes", BYTES, "Room for weights of an offloaded block while it runs."),
    Key(
        "activations_bytes",
        Nullable(BYTES),
        "Activations and temporaries of the block that needs most of them; null: not counted.",
        field="activation_bytes",
    ),
    Key("reserve_bytes", BYTES, "Kept free, as in machine."),
    Key(
        "headroom_bytes",
        Whole(minimum=None),
        "What is left: capacity less all that was counted; negative when the GPU overflows.",
        derived=True,
    ),
    Key("capacity_bytes", Whole(minimum=1), "Memory of the GPU, as in machine."),
    values=_load_values,
)
PREDICTION = TableOf(DEVICE, CARD_LOAD, key_field="device")

# --------------------------------------------------------------------------------------------- pins


def _grouped_pins(pins: tuple[Pin, ...]) -> list[dict[str, Any]]:
    """Neighbors with one device and one reason share an item: a vision tower is one."""
    runs = groupby(pins, key=lambda pin: (pin.device, pin.reason))
    return [
        {"device": device, "reason": reason, "blocks": [pin.block for pin in run]}
        for (device, reason), run in runs
    ]


def _pins_of(groups: tuple[dict[str, Any], ...]) -> tuple[Pin, ...]:
    pairs = [(block, group) for group in groups for block in group.pop("blocks")]
    return tuple(Pin(block=block, **group) for block, group in pairs)


PIN = record(
    dict,
    Key("device", DEVICE, "Where the blocks were to be."),
    Key("reason", TEXT, '"user", or why the default pin is there.'),
    Key("blocks", ListOf(MODULE, min_items=1), "The pinned blocks."),
)
PINS = Coded(ListOf(PIN), encode=_grouped_pins, decode=_pins_of)

RELAXATION = record(
    Relaxation,
    Key("reason", TEXT, "Why the pin could not be kept, with the numbers."),
    Key("blocks", ListOf(MODULE), "The blocks that were let go."),
)

# ------------------------------------------------------------------------------------------ traffic

TRANSFER = record(
    Transfer,
    Key("source", DEVICE, "Device that the activations leave."),
    Key("target", DEVICE, "Device that they enter."),
    Key("before", MODULE, "Block that receives them."),
    Key("bytes_per_token", BYTES, "For one token of one sequence."),
)

SHARED_COPY = record(
    SharedCopies,
    Key("source", DEVICE, "Device where the activations are made."),
    Key("target", DEVICE, "Device of the blocks that they are copied to."),
    Key("num_copies", WHOLE, "One for each tensor and block, in every forward."),
    Key("bytes_per_token", BYTES, "Of all copies together, for one token of one sequence."),
)


def traffic_values(traffic: Traffic, batch: int) -> dict[str, Any]:
    """The fields of the section ``traffic``: those of the object, and the totals of each step."""
    totals = {}
    for step in (*STEPS, WHOLE_RUN) if traffic.of(WHOLE_RUN) else STEPS:
        each = 1 if step == DECODE else traffic.prompt_tokens
        tokens = None if each is None else batch * each
        size, seconds = traffic.num_bytes(step), traffic.seconds(step)
        totals[step] = {
            "num_copies": traffic.num_copies(step),
            "bytes": size,
            "seconds": seconds,
            "bytes_per_token": tokens and size / tokens,
            "seconds_per_token": tokens and seconds / tokens,
        }
    return {**vars(traffic), **totals}


STEP_TOTAL = record(
    dict,
    Key("num_copies", WHOLE, "Copies in the step."),
    Key("bytes", BYTES, "Of all copies together."),
    Key("seconds", SECONDS, "What they take over their links, one after the other."),
    Key(
        "bytes_per_token",
        Nullable(SECONDS),
        "bytes over the tokens of all sequences that enter the step; null: not known how many.",
    ),
    Key("seconds_per_token", Nullable(SECONDS), "seconds over the same tokens."),
)

ROUTE = record(
    Route,
    Key("step", choice(PREFILL, DECODE, WHOLE_RUN), "prefill or decode, run of a pipeline."),
    Key("source", DEVICE, "Device that is copied from."),
    Key("target", DEVICE, "Device that is copied to."),
    Key("num_copies", WHOLE, "Copies in the step."),
    Key("num_bytes", BYTES, "Of all of them together."),
    Key("link", TEXT, "Name of the link that they take."),
    Key("seconds", SECONDS, "What they take."),
)

TRAFFIC = record(
    Traffic,
    Key(
        "basis",
        choice("run", "graph"),
        "run: every copy of the virtual run; graph: what enters the blocks, as no run counted.",
    ),
    Key(
        "prompt_tokens",
        Nullable(Whole(minimum=1)),
        "Text tokens of each sequence in the prefill; null: the inputs were the user's.",
    ),
    Key(PREFILL, STEP_TOTAL, "All copies of a prefill.", derived=True),
    Key(
        DECODE,
        STEP_TOTAL,
        "All copies of a decode step; nothing where there is none.",
        derived=True,
    ),
    Key(
        WHOLE_RUN,
        Optional(STEP_TOTAL),
        "All copies of a pipeline's run of three steps.",
        derived=True,
    ),
    Key("routes", ListOf(ROUTE), "The same from device to device."),
)

# ------------------------------------------------------------------------------------------- timing

CARD_TIME = record(
    CardTime,
    Key("prefill_s", SECONDS, "In a prefill."),
    Key("decode_s", SECONDS, "In a decode step."),
)

TRANSFER_TIME = record(
    dict,
    Key("prefill_s", SECONDS, "In a prefill.", field=PREFILL),
    Key("decode_s", SECONDS, "In a decode step.", field=DECODE),
)


def _timing_values(timing: Timing) -> dict[str, Any]:
    return {
        **vars(timing),
        "basis": "predicted, unmeasured",
        "prefill_s": timing.step_s(PREFILL),
        "decode_step_s": timing.step_s(DECODE),
        "request_s": timing.request_s,
    }


TIMING = record(
    Timing,
    Key("basis", TEXT, "How it was come by: predicted, unmeasured.", derived=True),
    Key("prompt_tokens", Whole(minimum=1), "Text tokens of each sequence in the prefill."),
    Key("new_tokens", Whole(minimum=1), "Tokens that a request makes."),
    Key("prefill_s", SECONDS, "A prefill: work of all GPUs and transfers.", derived=True),
    Key(
        "decode_step_s",
        SECONDS,
        "A decode step with a full cache; a token of each sequence.",
        derived=True,
    ),
    Key("request_s", SECONDS, "A prefill and the decode steps for the new tokens.", derived=True),
    Key(
        "lower_bound_s",
        SECONDS,
        "No placement with the same blocks offloaded takes less for a request.",
    ),
    Key("cards", TableOf(DEVICE, CARD_TIME, key_field="device"), "Work of each card."),
    Key("transfers", TRANSFER_TIME, "Transfers between the devices.", field="transfer_s"),
    values=_timing_values,
)

# -------------------------------------------------------------------------------------- certificate

CONSTRAINT = record(
    Constraint,
    Key("change", TEXT, "What the plan keeps to."),
    Key("finding", TEXT, "What the virtual run found without it."),
)

CERTIFICATE = record(
    Certificate,
    Key("objective", TEXT, "What was made best: balance, context, fewest or latency."),
    Key(
        "bottleneck",
        Number(),
        "Largest share of a GPU: load over capacity less reserve and activations.",
    ),
    Key("lower_bound", Number(), "No placement of these blocks on these GPUs is below this."),
    Key("gap", Number(minimum=-1.0), "bottleneck / lower_bound - 1.", derived=True),
    Key("solver", TEXT, "Which solver found the plan."),
    Key("optimal_within", TEXT, "Placements among which it is proven best; empty: not proven."),
    Key(
        "most_tokens",
        Nullable(WHOLE),
        "Tokens per sequence at which the first GPU is full; null when nothing grows.",
    ),
    Key(
        "most_tokens_bound",
        Nullable(WHOLE),
        "No placement holds more tokens per sequence than this.",
    ),
    Key(
        "first_full",
        Nullable(DEVICE),
        "The GPU that is full first when the context grows; null when nothing grows.",
    ),
)

PEAKS = TableOf(DEVICE, BYTES)

VERIFICATION = record(
    Verification,
    Key("status", choice("unverified", "clean", "findings"), "unverified, clean or findings."),
    Key("detail", TEXT, "What ran and what it found, or why nothing ran."),
    Key(
        "runs",
        Optional(ListOf(TEXT)),
        "Calls that ran: at the workload, then with few tokens; absent where nothing did.",
    ),
    Key(
        "not_covered",
        Optional(TEXT),
        "What the runs do not prove, and how to have it proven; absent where that is nothing.",
    ),
    Key(
        "peak_bytes",
        PEAKS,
        "Everything on each GPU at the fullest moment of the run, without the reserve.",
    ),
    Key(
        "phase_bytes",
        Optional(TableOf(Text(expected="the name of a component"), PEAKS)),
        "Of a pipeline: the same at the fullest moment of each phase, by component.",
    ),
)
