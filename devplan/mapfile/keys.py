"""The table of everything a map file holds: the one declaration of its keys.

Reader, writer, JSON Schema and reference page are derived from it (`devplan.mapfile.shape`).  To
add a key, give the object its field in ``devplan.core``, add the key here (or in ``plan_keys``) and
run ``make pages``.  A key that is removed, or whose meaning changes, raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

from typing import Any

from devplan.core import (
    LARGEST_BATCH,
    LARGEST_CONTEXT,
    LARGEST_FRAMES,
    LARGEST_IMAGES,
    MAX_INDEX,
    Card,
    DeviceMapFile,
    Link,
    Lock,
    LockedCard,
    Machine,
    ModelIdentity,
    OffloadTier,
    SharedCopies,
    Transfer,
    Workload,
    from_hf_device_map,
    order_entries,
    to_hf_device_map,
)
from devplan.mapfile.plan_keys import (
    CERTIFICATE,
    CONSTRAINT,
    LINKS,
    PINS,
    PREDICTION,
    RELAXATION,
    SHARED_COPY,
    TIMING,
    TRAFFIC,
    TRANSFER,
    VERIFICATION,
    traffic_values,
)
from devplan.mapfile.shape import (
    BYTES,
    DEVICE,
    LIBRARY,
    MODULE,
    TEXT,
    TEXT_OR_NULL,
    WHOLE,
    Coded,
    Either,
    Key,
    ListOf,
    Nullable,
    Optional,
    TableOf,
    Text,
    Whole,
    choice,
    optional_word,
    record,
)

SCHEMA_VERSION = 1

# -------------------------------------------------------------------------------- model and machine

MODEL = record(
    ModelIdentity,
    Key(
        "id",
        TEXT,
        "Catalogue name, hub id, folder or factory, as it was given. A factory is a fact here: its "
        "code runs only where a person types --model.",
    ),
    Key("revision", TEXT_OR_NULL, "Commit or tag on the hub."),
    Key("config_hash", TEXT_OR_NULL, "Hash of the configuration that was planned."),
    Key("class", TEXT, "Class of the model.", field="class_name"),
    Key(
        "auto_class",
        TEXT_OR_NULL,
        "Auto class that loads it, where its class is code that comes with the model.",
    ),
    Key("dtype", TEXT, "Dtype of the weights in memory."),
    Key("quantization", TEXT_OR_NULL, "Method of quantization, null for none."),
    Key("num_parameters", WHOLE, "Parameters, tied ones once."),
    Key("components", Optional(ListOf(MODULE, min_items=1)), "Of a pipeline: its models."),
    Key("repository", Optional(TEXT), "Where the files of a pipeline are, absent: under its id."),
    Key(
        "weights",
        optional_word("packed"),
        "packed: quantized weights count as they are stored, which transformers would unpack on "
        "these GPUs (--packed); absent: as transformers has them in memory.",
        field="packed",
    ),
    Key(
        "quantize",
        Optional(TEXT),
        "How transformers quantizes the weights while it loads them (--quantize): 4bit, 8bit, fp8, "
        "or a quantization config as JSON; absent: they are loaded as they are stored.",
    ),
)

CARD = record(
    Card,
    Key("device", DEVICE, "The GPU's device."),
    Key("name", TEXT, "As the driver or the catalogue calls it, or its size."),
    Key("capacity_bytes", Whole(minimum=1), "Memory of the card."),
    Key("reserve_bytes", BYTES, "Kept free of the plan: CUDA context, workspaces, fragmentation."),
)

TIER = record(
    OffloadTier,
    Key("device", choice("cpu", "disk"), "cpu or disk."),
    Key("capacity_bytes", Nullable(BYTES), "Bound, null for none."),
)

MACHINE = record(
    dict,
    Key("cards", ListOf(CARD, min_items=1), "The GPUs, in the order in which they were named."),
    Key(
        "tiers",
        ListOf(TIER),
        "Memory outside the GPUs that offload was allowed to use; empty unless it was asked for.",
    ),
)

# ----------------------------------------------------------------------------------------- workload

IMAGE_SIZE = Coded(
    Text(expected="height and width: 1080x1920", pattern=r"^[1-9]\d{0,4}x[1-9]\d{0,4}$"),
    encode=lambda size: "{}x{}".format(*size),
    decode=lambda text: tuple(map(int, text.split("x"))),
)

WORKLOAD = record(
    Workload,
    Key("batch", Whole(minimum=1, maximum=LARGEST_BATCH), "Sequences at a time."),
    Key(
        "context_tokens",
        Whole(minimum=1, maximum=LARGEST_CONTEXT),
        "Tokens held per sequence, prompt and new ones.",
        field="context",
    ),
    Key("dtype", TEXT_OR_NULL, "Compute dtype, null: as the checkpoint says."),
    Key("kv_dtype", TEXT_OR_NULL, "Dtype of the KV cache, null: as the model makes it."),
    Key(
        "images",
        Optional(Whole(maximum=LARGEST_IMAGES)),
        "Images of each sequence, absent: one where the model takes images.",
    ),
    Key(
        "image_size",
        Optional(IMAGE_SIZE),
        "Their height and width in pixels, or of what a pipeline makes; absent: small where the "
        "model does not fix it.",
    ),
    Key(
        "frames",
        Optional(Whole(minimum=1, maximum=LARGEST_FRAMES)),
        "Frames of the video that a pipeline makes, absent: its own number, or no video.",
    ),
    Key(
        "tiling",
        optional_word("vae"),
        "vae: a pipeline's autoencoder works in tiles; absent: on the whole at once.",
    ),
)

# -------------------------------------------------------------------------------------- environment

CAPABILITY = Coded(
    Text(expected="a compute capability: '8.9'", pattern=r"^\d+\.\d+$"),
    encode=lambda numbers: ".".join(map(str, numbers)),
    decode=lambda text: tuple(map(int, text.split("."))),
)

LOCKED_CARD = record(
    LockedCard,
    Key("device", DEVICE, "The GPU's device."),
    Key("name", TEXT, "As the driver calls it."),
    Key("capacity_bytes", Whole(minimum=1), "What torch can allocate of it."),
    Key("uuid", TEXT_OR_NULL, "The very GPU, null where it is not known."),
    Key("compute_capability", Nullable(CAPABILITY), "Such as '8.9', null where it is not known."),
)

ENVIRONMENT = record(
    Lock,
    Key(
        "cards",
        ListOf(LOCKED_CARD),
        "The GPUs that were there; empty: locked without GPUs, to versions only.",
    ),
    Key("driver", TEXT_OR_NULL, "Version of the driver, null without one."),
    Key("cuda", TEXT_OR_NULL, "The CUDA that torch was built with, null for none."),
    Key("python", TEXT, "Version of Python."),
    Key("versions", TableOf(LIBRARY, TEXT), "Versions of the libraries, with their local part."),
)

# ----------------------------------------------------------------------------------------- the file

HF_DEVICE = Either(
    options=(Whole(maximum=MAX_INDEX), DEVICE),
    expected="a device: 0 for cuda:0, or cpu, disk, xpu:0, ...",
)


def _map_values(map_file: DeviceMapFile) -> dict[str, Any]:
    machine, traffic = map_file.machine, map_file.traffic
    return {
        **vars(map_file),
        "schema": SCHEMA_VERSION,
        "device_map": to_hf_device_map(order_entries(map_file.device_map, machine.main_device)),
        "main_device": machine.main_device,
        "links": machine.links,
        # Without traffic, an empty list would claim that nothing is copied.
        "transfers": map_file.transfers if traffic else None,
        "shared_copies": map_file.shared_copies if traffic else None,
        "traffic": traffic and traffic_values(traffic, map_file.workload.batch),
    }


def _map_file(
    *,
    device_map: dict[str, int | str],
    machine: dict[str, Any],
    main_device: str,
    links: tuple[Link, ...],
    transfers: tuple[Transfer, ...] | None,
    shared_copies: tuple[SharedCopies, ...] | None,
    **fields: Any,
) -> DeviceMapFile:
    return DeviceMapFile(
        device_map=from_hf_device_map(device_map),
        machine=Machine(main_device=main_device, links=links, **machine),
        transfers=transfers or (),
        shared_copies=shared_copies or (),
        **fields,
    )


MAP_FILE = record(
    _map_file,
    Key(
        "schema",
        Whole(minimum=SCHEMA_VERSION, maximum=SCHEMA_VERSION),
        "Version of this format.",
        derived=True,
    ),
    Key(
        "device_map",
        TableOf(MODULE, HF_DEVICE, min_entries=1),
        "Module -> device, as from_pretrained(device_map=...) takes it; the longest entry wins.",
    ),
    Key("model", MODEL, "The model that the map was made for."),
    Key("machine", MACHINE, "The machine that it was made for."),
    Key("workload", WORKLOAD, "What the model will be asked to do."),
    Key("main_device", DEVICE, "Where inputs enter; the device of the first entry."),
    Key("links", LINKS, "What joins the devices, in either direction."),
    Key(
        "prediction",
        PREDICTION,
        "Predicted memory of each GPU at this workload.",
        field="loads",
    ),
    Key(
        "offload_bytes",
        TableOf(choice("cpu", "disk"), BYTES),
        "Weights and buffers outside the GPUs.",
    ),
    Key("pins", PINS, "Blocks that were to be on a given device."),
    Key("relaxed", ListOf(RELAXATION), "Default pins that could not be kept."),
    Key(
        "transfers",
        Nullable(ListOf(TRANSFER)),
        "Activations that cross from one device to the next.",
    ),
    Key(
        "shared_copies",
        Nullable(ListOf(SHARED_COPY)),
        "Activations that many blocks need (position embeddings, masks), which hooks copy to each.",
    ),
    Key(
        "traffic",
        Nullable(TRAFFIC),
        "What is copied between devices in a prefill and in a decode step.",
    ),
    Key(
        "timing",
        Nullable(TIMING),
        "What a request is predicted to take; null unless speed was asked for.",
    ),
    Key(
        "constraints", ListOf(CONSTRAINT), "What virtual runs of earlier plans taught the planner."
    ),
    Key("certificate", CERTIFICATE, "How good the plan is, and how that was established."),
    Key("verification", VERIFICATION, "What was run to prove the map."),
    Key(
        "versions",
        TableOf(LIBRARY, TEXT),
        "Versions that the map was made with; diffusers only where the class is one of its own.",
    ),
    Key(
        "environment",
        Optional(ENVIRONMENT),
        "What the map was locked to with `devplan lock`; absent where it was not.",
    ),
    Key("notes", ListOf(TEXT), "What else must be known."),
    values=_map_values,
)
