"""The table of everything a map file holds: the one source of reader, schema and reference."""

from __future__ import annotations

from devplan.core import LARGEST_BATCH, LARGEST_CONTEXT, LARGEST_FRAMES, LARGEST_IMAGES
from devplan.mapfile.cost_keys import LINKS, SHARED_COPIES, TIMING, TRAFFIC, TRANSFERS
from devplan.mapfile.environment_document import ENVIRONMENT
from devplan.mapfile.shape import ListOf, Nullable, Number, Optional, TableOf, Text, Whole
from devplan.mapfile.values import BYTES, DEVICE, HF_DEVICE, MODULE, record

SCHEMA_VERSION = 1
TILED = "vae"
PACKED = "packed"
IMAGE_SIZE_PATTERN = r"^[1-9]\d{0,5}x[1-9]\d{0,5}$"

MODEL = record(
    (
        "id",
        "Catalogue name, hub id, folder or factory, as it was given. A factory is a fact here: its "
        "code runs only where a person types --model.",
        Text(),
    ),
    ("revision", "Commit or tag on the hub.", Nullable(inner=Text())),
    ("config_hash", "Hash of the configuration that was planned.", Nullable(inner=Text())),
    ("class", "Class of the model.", Text()),
    (
        "auto_class",
        "Auto class that loads it, where its class is code that comes with the model.",
        Nullable(inner=Text()),
    ),
    ("dtype", "Dtype in which the weights lie in memory.", Text()),
    ("quantization", "Method of quantization, null for none.", Nullable(inner=Text())),
    ("num_parameters", "Parameters, tied ones once.", Whole()),
    ("components", "Of a pipeline: its models.", Optional(inner=ListOf(item=MODULE, min_items=1))),
    (
        "repository",
        "Where the files of a pipeline are, absent: under its id.",
        Optional(inner=Text()),
    ),
    (
        "weights",
        "packed: quantized weights count as they are stored, which transformers would unpack on "
        "these cards (--packed); absent: as transformers has them in memory.",
        Optional(inner=Text(expected=PACKED, choices=(PACKED,))),
    ),
)

MACHINE = record(
    (
        "cards",
        "The GPUs, in the order in which they were named.",
        ListOf(
            min_items=1,
            item=record(
                ("device", "The card's device.", DEVICE),
                ("name", "As the driver or the catalogue calls it, or its size.", Text()),
                ("capacity_bytes", "Memory of the card.", Whole(minimum=1)),
                (
                    "reserve_bytes",
                    "Kept free of the plan: CUDA context, workspaces, fragmentation.",
                    BYTES,
                ),
            ),
        ),
    ),
    (
        "tiers",
        "Memory outside the GPUs that offload was allowed to use; empty unless it was asked for.",
        ListOf(
            item=record(
                ("device", "cpu or disk.", Text(expected="cpu or disk", choices=("cpu", "disk"))),
                ("capacity_bytes", "Bound, null for none.", Nullable(inner=BYTES)),
            )
        ),
    ),
)

WORKLOAD = record(
    ("batch", "Sequences at a time.", Whole(minimum=1, maximum=LARGEST_BATCH)),
    (
        "context_tokens",
        "Tokens held per sequence, prompt and new ones.",
        Whole(minimum=0, maximum=LARGEST_CONTEXT),
    ),
    ("dtype", "Compute dtype, null: as the checkpoint says.", Nullable(inner=Text())),
    ("kv_dtype", "Dtype of the KV cache, null: as the model makes it.", Nullable(inner=Text())),
    (
        "images",
        "Images of each sequence, absent: one where the model takes images.",
        Optional(inner=Whole(maximum=LARGEST_IMAGES)),
    ),
    (
        "image_size",
        "Their height and width in pixels, or of what a pipeline makes; absent: small where the "
        "model does not fix it.",
        Optional(inner=Text(expected="height and width: 1080x1920", pattern=IMAGE_SIZE_PATTERN)),
    ),
    (
        "frames",
        "Frames of the video that a pipeline makes, absent: its own number, or no video.",
        Optional(inner=Whole(minimum=1, maximum=LARGEST_FRAMES)),
    ),
    (
        "tiling",
        "vae: a pipeline's autoencoder works in tiles; absent: on the whole at once.",
        Optional(inner=Text(expected=TILED, choices=(TILED,))),
    ),
)

CARD_LOAD = record(
    ("weights_bytes", "Parameters.", BYTES),
    ("buffers_bytes", "Buffers.", BYTES),
    (
        "kv_cache_bytes",
        "KV cache and other state at the workload; null: not counted, as nothing ran.",
        Nullable(inner=BYTES),
    ),
    ("onload_bytes", "Room for weights of an offloaded block while it runs.", BYTES),
    (
        "activations_bytes",
        "Activations and temporaries of the block that needs most of them; null: not counted.",
        Nullable(inner=BYTES),
    ),
    ("reserve_bytes", "Kept free, as in machine.", BYTES),
    (
        "headroom_bytes",
        "What is left: capacity less all that was counted; negative when the card overflows.",
        Whole(minimum=None),
    ),
    ("capacity_bytes", "Memory of the card, as in machine.", Whole(minimum=1)),
)

PINS = ListOf(
    item=record(
        ("device", "Where the blocks were to be.", DEVICE),
        ("reason", '"user", or why the default pin is there.', Text()),
        ("blocks", "The pinned blocks.", ListOf(item=MODULE, min_items=1)),
    )
)

RELAXED = ListOf(
    item=record(
        ("reason", "Why the pin could not be kept, with the numbers.", Text()),
        ("blocks", "The blocks that were let go.", ListOf(item=MODULE)),
    )
)

CERTIFICATE = record(
    ("objective", "What was made best: balance, context, fewest or latency.", Text()),
    (
        "bottleneck",
        "Largest share of a card: load over capacity less reserve and activations.",
        Number(),
    ),
    ("lower_bound", "No placement of these blocks on these cards is below this.", Number()),
    ("gap", "bottleneck / lower_bound - 1.", Number(minimum=-1.0)),
    ("solver", "Which solver found the plan.", Text()),
    ("optimal_within", "Placements among which it is proven best; empty: not proven.", Text()),
    (
        "most_tokens",
        "Tokens per sequence at which the first card is full; null when nothing grows.",
        Nullable(inner=Whole()),
    ),
    (
        "most_tokens_bound",
        "No placement holds more tokens per sequence than this.",
        Nullable(inner=Whole()),
    ),
    (
        "first_full",
        "The card that is full first when the context grows; null when nothing grows.",
        Nullable(inner=DEVICE),
    ),
)

CONSTRAINTS = ListOf(
    item=record(
        ("change", "What the plan keeps to.", Text()),
        ("finding", "What the virtual run found without it.", Text()),
    )
)

VERIFICATION = record(
    (
        "status",
        "unverified, clean or findings.",
        Text(expected="unverified, clean or findings", choices=("unverified", "clean", "findings")),
    ),
    ("detail", "What ran and what it found, or why nothing ran.", Text()),
    (
        "runs",
        "Calls that ran: at the workload, then with few tokens; absent where nothing did.",
        Optional(inner=ListOf(item=Text())),
    ),
    (
        "not_covered",
        "What the runs do not prove, and how to have it proven; absent where that is nothing.",
        Optional(inner=Text()),
    ),
    (
        "peak_bytes",
        "Everything on each card at the fullest moment of the run, the reserve aside.",
        TableOf(key=DEVICE, value=BYTES),
    ),
    (
        "phase_bytes",
        "Of a pipeline: the same at the fullest moment of each phase, by component.",
        Optional(
            inner=TableOf(
                key=Text(expected="the name of a component"),
                value=TableOf(key=DEVICE, value=BYTES),
            )
        ),
    ),
)

MAP_FILE = record(
    (
        "schema",
        "Version of this format.",
        Whole(minimum=SCHEMA_VERSION, maximum=SCHEMA_VERSION),
    ),
    (
        "device_map",
        "Module -> device, as from_pretrained(device_map=...) takes it; the longest entry wins.",
        TableOf(key=MODULE, value=HF_DEVICE, min_entries=1),
    ),
    ("model", "The model that the map was made for.", MODEL),
    ("machine", "The machine that it was made for.", MACHINE),
    ("workload", "What the model will be asked to do.", WORKLOAD),
    ("main_device", "Where inputs enter; the device of the first entry.", DEVICE),
    ("links", "What joins the devices, in either direction.", LINKS),
    (
        "prediction",
        "What will lie on each card at this workload.",
        TableOf(key=DEVICE, value=CARD_LOAD),
    ),
    (
        "offload_bytes",
        "Weights and buffers outside the GPUs.",
        TableOf(
            key=Text(expected="cpu or disk", choices=("cpu", "disk")),
            value=BYTES,
        ),
    ),
    ("pins", "Blocks that were to be on a given device.", PINS),
    ("relaxed", "Default pins that could not be kept.", RELAXED),
    (
        "transfers",
        "Activations that cross from one device to the next.",
        TRANSFERS,
    ),
    (
        "shared_copies",
        "Activations that many blocks need (position embeddings, masks), which hooks copy to each.",
        SHARED_COPIES,
    ),
    (
        "traffic",
        "What is copied between devices in a prefill and in a decode step.",
        TRAFFIC,
    ),
    ("timing", "What a request is predicted to take; null unless speed was asked for.", TIMING),
    ("constraints", "What virtual runs of earlier plans taught the planner.", CONSTRAINTS),
    ("certificate", "How good the plan is, and who says so.", CERTIFICATE),
    ("verification", "What was run to prove the map.", VERIFICATION),
    (
        "versions",
        "Versions that the map was made with; diffusers only where the class is one of its own.",
        TableOf(key=Text(expected="the name of a library"), value=Text()),
    ),
    (
        "environment",
        "What the map was locked to with `devplan lock`; absent where it was not.",
        ENVIRONMENT,
    ),
    ("notes", "What else must be known.", ListOf(item=Text())),
)
