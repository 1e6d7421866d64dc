"""Plans built by hand from real sizes: Qwen2.5-VL-7B in bfloat16 on 24 + 12 GiB.

Bytes of each module are those of the model on the meta device (transformers 5.23.0); the cache of
a layer is 2 * 4 heads * 128 * 2 bytes a token.
"""

from __future__ import annotations

from dataclasses import replace

from devplan.core.costs import CardTime, Timing, Traffic
from devplan.core.types import (
    Block,
    BlockGraph,
    Card,
    Certificate,
    DeviceMapFile,
    DeviceMemory,
    Infeasible,
    Machine,
    ModelIdentity,
    OffloadTier,
    Pin,
    Plan,
    Relaxation,
    Remedy,
    Stage,
    Transfer,
    Verification,
)
from devplan.core.units import GIB, MIB
from devplan.core.workload import Workload
from devplan.machine.links import with_links
from devplan.mapfile.of_plan import contract_entries
from devplan.planning.speed import copies_on_link

NUM_LAYERS = 28
SPLIT_AT = 17
LAYER_BYTES = 466_115_584
LAYER_CACHE_BYTES_PER_TOKEN = 2048
HIDDEN_BYTES = 3584 * 2
STATIC_BYTES = {
    "model.visual.patch_embed": 3_010_560,
    **{f"model.visual.blocks.{index}": 39_404_400 for index in range(32)},
    "model.visual.merger": 89_148_928,
    "model.language_model.embed_tokens": 1_089_994_752,
    "model.language_model.norm": 7_168,
    "lm_head": 1_089_994_752,
}
BUFFER_BYTES = {"model.visual.rotary_pos_emb": 160, "model.language_model.rotary_emb": 512}

MODEL = ModelIdentity(
    id="Qwen/Qwen2.5-VL-7B-Instruct",
    revision=None,
    config_hash="5f1c9f0e",
    class_name="Qwen2_5_VLForConditionalGeneration",
    dtype="bfloat16",
    quantization=None,
    num_parameters=8_292_166_656,
)
WORKLOAD = Workload(batch=1, context=32768)
VERSIONS = {"torch": "2.13.0", "transformers": "5.23.0", "accelerate": "1.15.0"}
RESERVE_BYTES = 768 * MIB


def machine(*sizes_gib: int) -> Machine:
    """Cards of the given sizes, the first the main device."""
    bare = Machine(
        cards=tuple(
            Card(
                device=f"cuda:{index}",
                name=f"{size}GiB",
                capacity_bytes=size * GIB,
                reserve_bytes=RESERVE_BYTES,
            )
            for index, size in enumerate(sizes_gib)
        ),
        main_device="cuda:0",
    )
    return with_links(bare)


def layers(start: int, stop: int) -> tuple[str, ...]:
    return tuple(f"model.language_model.layers.{index}" for index in range(start, stop))


VISION = (
    "model.visual.patch_embed",
    "model.visual.rotary_pos_emb",
    *(f"model.visual.blocks.{index}" for index in range(32)),
    "model.visual.merger",
)
HEAD = ("model.language_model.norm", "lm_head")
FIRST_STAGE = (
    "model.language_model.embed_tokens",
    *VISION,
    "model.language_model.rotary_emb",
    *layers(0, SPLIT_AT),
)
STAGES = (
    Stage(device="cuda:0", blocks=FIRST_STAGE),
    Stage(device="cuda:1", blocks=layers(SPLIT_AT, NUM_LAYERS)),
    Stage(device="cuda:0", blocks=HEAD),
)
PLACEMENT = {block: stage.device for stage in STAGES for block in stage.blocks}
IDS_ENTER_HERE = "the input ids enter here"
IMAGES_ENTER_HERE = "its output is merged into the embeddings"


def card_load(device: str, capacity_gib: int) -> DeviceMemory:
    """What `PLACEMENT` puts on a card at `WORKLOAD`."""
    here = [block for block, where in PLACEMENT.items() if where == device]
    num_layers = sum(".layers." in block for block in here)
    static = sum(STATIC_BYTES.get(block, 0) for block in here)
    return DeviceMemory(
        device=device,
        weight_bytes=static + num_layers * LAYER_BYTES,
        buffer_bytes=sum(BUFFER_BYTES.get(block, 0) for block in here),
        cache_bytes=num_layers * LAYER_CACHE_BYTES_PER_TOKEN * WORKLOAD.tokens,
        onload_bytes=0,
        reserve_bytes=RESERVE_BYTES,
        capacity_bytes=capacity_gib * GIB,
    )


LOADS = (card_load("cuda:0", 24), card_load("cuda:1", 12))


def bottleneck(loads: tuple[DeviceMemory, ...]) -> float:
    return max(load.share for load in loads)


def lower_bound(loads: tuple[DeviceMemory, ...]) -> float:
    """All bytes over all budgets: no card can be emptier than the mean."""
    budgets = sum(load.capacity_bytes - load.reserve_bytes for load in loads)
    return sum(load.load_bytes for load in loads) / budgets


def tokens_until_full(load: DeviceMemory) -> int:
    return (load.cache_bytes + load.headroom_bytes) * WORKLOAD.tokens // load.cache_bytes


CERTIFICATE = Certificate(
    objective="balance",
    bottleneck=bottleneck(LOADS),
    lower_bound=lower_bound(LOADS),
    solver="contiguous",
    optimal_within="contiguous stages with these pins",
    most_tokens=min(map(tokens_until_full, LOADS)),
    most_tokens_bound=365_200,
    first_full="cuda:1",
)
TRAFFIC = Traffic(
    basis="run",
    prompt_tokens=32765,
    routes=tuple(
        copies_on_link(machine(24, 12), step, source, target, 1, HIDDEN_BYTES * tokens)
        for step, tokens in (("prefill", 32765), ("decode", 1))
        for source, target in (("cuda:0", "cuda:1"), ("cuda:1", "cuda:0"))
    ),
)
PLAN = Plan(
    placement=PLACEMENT,
    stages=STAGES,
    loads=LOADS,
    offload_bytes={},
    pins=(
        Pin(block="model.language_model.embed_tokens", device="cuda:0", reason=IDS_ENTER_HERE),
        *(Pin(block=block, device="cuda:0", reason=IMAGES_ENTER_HERE) for block in VISION),
        Pin(block="lm_head", device="cuda:0", reason="user"),
    ),
    relaxed=(),
    transfers=(
        Transfer(
            source="cuda:0",
            target="cuda:1",
            before="model.language_model.layers.17",
            bytes_per_token=HIDDEN_BYTES,
        ),
        Transfer(
            source="cuda:1",
            target="cuda:0",
            before="model.language_model.norm",
            bytes_per_token=HIDDEN_BYTES,
        ),
    ),
    traffic=TRAFFIC,
    certificate=CERTIFICATE,
)
TIMING = Timing(
    prompt_tokens=32765,
    new_tokens=256,
    cards=(
        CardTime(device="cuda:0", prefill_s=4.5, decode_s=0.0125),
        CardTime(device="cuda:1", prefill_s=2.0, decode_s=0.0055),
    ),
    transfer_s={step: TRAFFIC.seconds(step) for step in ("prefill", "decode")},
    lower_bound_s=10.5,
)


def map_file_of(plan: Plan, on: Machine) -> DeviceMapFile:
    """The map file of a plan for the example model."""
    return DeviceMapFile(
        device_map=contract_entries(plan.placement),
        model=MODEL,
        machine=on,
        workload=WORKLOAD,
        loads=plan.loads,
        offload_bytes=plan.offload_bytes,
        certificate=plan.certificate,
        pins=plan.pins,
        relaxed=plan.relaxed,
        transfers=plan.transfers,
        traffic=plan.traffic,
        timing=plan.timing,
        verification=Verification(status="unverified", detail="no check has run on this map"),
        versions=VERSIONS,
        notes=plan.notes,
    )


MAP_FILE = map_file_of(PLAN, machine(24, 12))
TIMED = replace(PLAN, timing=TIMING)
TIMED_FILE = map_file_of(TIMED, machine(24, 12))
MAP_PATH = "maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"


def offload_plan() -> tuple[Plan, DeviceMapFile]:
    """The head relaxed to the second card, the vision tower on the CPU, a stack torn apart."""
    placement = PLACEMENT | dict.fromkeys(VISION, "cpu") | {"lm_head": "cuda:1"}
    vision_bytes = sum(STATIC_BYTES.get(block, 0) for block in VISION)
    head_bytes = STATIC_BYTES["lm_head"]
    first, second = LOADS
    loads = (
        replace(
            first,
            weight_bytes=first.weight_bytes - vision_bytes - head_bytes,
            onload_bytes=STATIC_BYTES["model.visual.merger"],
        ),
        replace(second, weight_bytes=second.weight_bytes + head_bytes),
    )
    plan = replace(
        PLAN,
        placement=placement,
        stages=(
            Stage(device="cpu", blocks=VISION),
            Stage(
                device="cuda:0",
                blocks=tuple(block for block in FIRST_STAGE if block not in VISION),
            ),
            Stage(device="cuda:1", blocks=layers(SPLIT_AT, NUM_LAYERS)),
            Stage(device="cuda:0", blocks=HEAD[:1]),
            Stage(device="cuda:1", blocks=HEAD[1:]),
        ),
        loads=loads,
        offload_bytes={"cpu": vision_bytes},
        pins=(PLAN.pins[0],),
        relaxed=(
            Relaxation(
                blocks=("lm_head",),
                reason="with it cuda:0 lacks 211.00 MiB; it went to cuda:1",
            ),
        ),
        transfers=(
            *PLAN.transfers,
            Transfer(
                source="cuda:0", target="cuda:1", before="lm_head", bytes_per_token=HIDDEN_BYTES
            ),
        ),
        certificate=replace(
            CERTIFICATE,
            bottleneck=bottleneck(loads),
            lower_bound=lower_bound(loads),
            solver="search",
            optimal_within="",
            most_tokens=None,
            most_tokens_bound=None,
            first_full=None,
        ),
        contiguous=False,
        notes=("40,000 tokens are more than the 32,768 that the model was trained for",),
    )
    tiers = (OffloadTier(device="cpu", capacity_bytes=64 * GIB),)
    return plan, map_file_of(plan, replace(machine(24, 12), tiers=tiers))


INFEASIBLE = Infeasible(
    reason="45.12 GiB of weights and cache do not fit into 34.50 GiB on 2 cards",
    loads=(
        DeviceMemory(
            device="cuda:0",
            weight_bytes=24 * GIB,
            cache_bytes=2 * GIB,
            activation_bytes=4 * GIB,
            activation_block="model.language_model.layers.0",
            reserve_bytes=1 * GIB,
            capacity_bytes=24 * GIB,
        ),
        DeviceMemory(
            device="cuda:1",
            weight_bytes=9 * GIB + 717 * MIB,
            cache_bytes=1 * GIB,
            activation_bytes=4 * GIB,
            activation_block="model.language_model.layers.17",
            reserve_bytes=1 * GIB,
            capacity_bytes=12 * GIB,
        ),
    ),
    lower_bound=1.3077,
    proven=True,
    remedies=(
        Remedy(change="--context 21504 instead of 32768"),
        Remedy(change="--gpus 24GiB,12GiB,12GiB: one more GPU of at least 11.40 GiB"),
        Remedy(change="--offload cpu=12GiB"),
    ),
)

INFEASIBLE_GRAPH = BlockGraph(
    blocks=tuple(
        Block(
            name=f"model.language_model.layers.{index}",
            class_name="Qwen2_5_VLDecoderLayer",
            weight_bytes=LAYER_BYTES,
            buffer_bytes=0,
        )
        for index in (0, 17)
    )
)
