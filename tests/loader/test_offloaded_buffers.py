"""Maps of devplan's own whose offloaded blocks have buffers, really loaded over cpu and disk."""

from __future__ import annotations

import pytest
import torch
from transformers import ResNetConfig, ResNetModel, SwinConfig, SwinModel

import devplan
from devplan.machine.parse import parse_gpus

PIXELS = {"pixel_values": torch.linspace(-1, 1, 3 * 32 * 32).view(1, 3, 32, 32)}


def swin():
    config = SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 2], num_heads=[1, 2], window_size=4
    )
    return SwinModel(config), ["encoder.layers.1"]


def resnet():
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 32], depths=[2, 2, 2])
    return ResNetModel(config), ["encoder.stages.1", "encoder.stages.2"]


@pytest.mark.parametrize("tier", ["cpu", "disk"])
@pytest.mark.parametrize("make", [swin, resnet])
def test_a_map_with_offloaded_buffers_is_loaded_and_applied(tmp_path, make, tier):
    """accelerate offloads parameters only: relative positions and running means stay."""
    torch.manual_seed(0)
    model, offloaded = make()
    model.eval().save_pretrained(tmp_path / "model")
    wanted = model(**PIXELS).last_hidden_state
    found = devplan.suggest(
        str(tmp_path / "model"),
        parse_gpus("256MiB", reserve="0", offload=("cpu", "disk")),
        pins=dict.fromkeys(offloaded, tier),
    )
    (load,) = found.result.loads
    assert load.buffer_bytes == sum(block.buffer_bytes for block in found.graph.blocks) > 0
    map_path = tmp_path / "map.yaml"
    devplan.write_map(found, map_path)
    here = {"devices": {"cuda:0": "cpu"}}
    loaded = devplan.load(tmp_path / "model", map_path, offload_folder=tmp_path / "a", **here)
    applied = devplan.apply(model, map_path, offload_folder=tmp_path / "b", **here)
    for each in (loaded, applied):
        # [main device] stands for cuda:0 here and is the CPU, so that only disk is elsewhere
        assert any(parameter.is_meta for parameter in each.parameters()) is (tier == "disk")
        with torch.no_grad():
            torch.testing.assert_close(each(**PIXELS).last_hidden_state, wanted)
