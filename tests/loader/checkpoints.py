"""Small real checkpoints of real architectures, and maps of them by `devplan suggest`.

Three cards, so that a map has at least one cut; ``STAND_INS`` says what they become on a machine
without cards.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from devplan.cli.app import main
from devplan.core.types import OffloadTier
from devplan.mapfile.read import read_map
from devplan.mapfile.write import write_map
from tests.virtual import tiny

GPUS = "1GiB,512MiB,1GiB"
ALL_CPU = {"cuda:0": "cpu", "cuda:1": "cpu", "cuda:2": "cpu"}
CPU_AND_DISK = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"}

SIZES = dict(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    bos_token_id=1,
    eos_token_id=2,
    max_position_embeddings=256,
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder as ``save_pretrained`` writes it, and a map of it."""

    folder: Path
    map: Path
    inputs: dict[str, Any]

    def whole(self, **arguments: Any) -> nn.Module:
        """The model loaded without a map."""
        class_name = read_map(self.map).model.class_name
        return getattr(transformers, class_name).from_pretrained(self.folder, **arguments)


def tied_llama() -> nn.Module:
    return seeded(transformers.LlamaForCausalLM, "LlamaConfig", tie_word_embeddings=True)


def seeded(model_class: type, config_class: str, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(**{**SIZES, **settings})
    return model_class(config).eval()


def experts() -> nn.Module:
    return seeded(transformers.MixtralForCausalLM, "MixtralConfig", num_local_experts=4)


MODELS = {
    "tied": tied_llama,
    "tied qwen2": lambda: seeded(
        transformers.Qwen2ForCausalLM, "Qwen2Config", tie_word_embeddings=True
    ),
    "experts": experts,
    "buffers in the layers": lambda: seeded(
        transformers.GPTJForCausalLM, "GPTJConfig", rotary_dim=8, max_position_embeddings=1024
    ),
    "encoder-decoder": lambda: tiny.real_model("t5"),
    "pictures and text": lambda: tiny.real_model("qwen2_5_vl"),
}


def inputs_for(name: str) -> dict[str, Any]:
    if name == "encoder-decoder":
        return tiny.real_inputs("t5")
    if name == "pictures and text":
        return tiny.real_inputs("qwen2_5_vl")
    generator = torch.Generator().manual_seed(1)
    return {"input_ids": torch.randint(3, 500, (2, 9), generator=generator)}


def make(name: str, place: Path, shard_size: str = "60KB") -> Checkpoint:
    """The checkpoint, in shards, and its map."""
    folder = place / name.replace(" ", "-")
    MODELS[name]().save_pretrained(folder, max_shard_size=shard_size)
    return Checkpoint(folder=folder, map=suggest(folder), inputs=inputs_for(name))


def suggest(folder: Path, *more: str, name: str = "", gpus: str = GPUS) -> Path:
    """A map of the folder by the command line, proven."""
    path = folder.parent / f"{name or folder.name}.yaml"
    words = ["suggest", folder, "--gpus", gpus, "--context", "64", "-o", path, "--force", *more]
    assert main([str(word) for word in words]) == 0
    return path


def layers_on(checkpoint: Checkpoint, card: str) -> list[str]:
    """The layers that the map puts on a card; there is one at least."""
    device_map = read_map(checkpoint.map).device_map
    found = [key for key, device in device_map.items() if device == card and ".layers." in key]
    assert found, f"nothing is on {card}, nothing is tested"
    return found


def with_offload(checkpoint: Checkpoint, tiers: dict[str, str]) -> Path:
    """The map with all of some cards on ``cpu`` or ``disk``, their bytes moved with them."""
    map_file = read_map(checkpoint.map)
    offloaded: dict[str, int] = {}
    for load in map_file.loads:
        if load.device in tiers:
            tier = tiers[load.device]
            moved = load.weight_bytes + load.buffer_bytes
            offloaded[tier] = offloaded.get(tier, 0) + moved
    changed = replace(
        map_file,
        device_map={e: tiers.get(device, device) for e, device in map_file.device_map.items()},
        machine=replace(
            map_file.machine,
            tiers=tuple(OffloadTier(device=tier, capacity_bytes=None) for tier in offloaded),
        ),
        loads=tuple(load for load in map_file.loads if load.device not in tiers),
        offload_bytes=offloaded,
    )
    path = checkpoint.map.with_name(f"{checkpoint.map.stem}-{'-'.join(tiers.values())}.yaml")
    write_map(changed, path, force=True)
    return path


def outputs(model: nn.Module, inputs: dict[str, Any]) -> list[torch.Tensor]:
    """Every tensor that a forward gives."""
    with torch.no_grad():
        found = model(**inputs)
    flat = torch.utils._pytree.tree_leaves(dict(found))
    return [leaf for leaf in flat if isinstance(leaf, torch.Tensor)]


def assert_same(one: list[torch.Tensor], other: list[torch.Tensor]) -> None:
    """Bit for bit."""
    assert one and len(one) == len(other)
    for mine, yours in zip(one, other, strict=True):
        assert mine.dtype == yours.dtype and torch.equal(mine, yours)
