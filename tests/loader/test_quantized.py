"""A quantized checkpoint on a machine that cannot compute in its format.

transformers turns block-quantized fp8 back into bfloat16 where no GPU computes in it.
The model runs, and is not what the map was proven for.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

import devplan
from devplan.core.errors import DeviceMapError, InputError
from devplan.mapfile.read import read_map
from tests.loader import checkpoints
from tests.loader.checkpoints import ALL_CPU, assert_same, outputs

BLOCK = 32
LARGEST = torch.finfo(torch.float8_e4m3fn).max


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float8 values and the inverse scale of each block, as DeepSeek's checkpoints store them."""
    rows, columns = (size // BLOCK for size in weight.shape)
    blocks = weight.float().reshape(rows, BLOCK, columns, BLOCK)
    scale = blocks.abs().amax((1, 3)).clamp(min=1e-6) / LARGEST  # [rows, columns]
    values = (blocks / scale[:, None, :, None]).reshape(weight.shape)
    return values.to(torch.float8_e4m3fn), scale


@pytest.fixture(scope="module")
def fp8(place) -> checkpoints.Checkpoint:
    folder: Path = place / "fp8"
    model = checkpoints.tied_llama().to(torch.bfloat16)
    model.save_pretrained(folder)
    tensors = model.state_dict()
    del tensors["lm_head.weight"]
    for name in [name for name in tensors if name.endswith("proj.weight")]:
        tensors[name], tensors[f"{name}_scale_inv"] = quantize(tensors[name])
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    quantization = {
        "quant_method": "fp8",
        "weight_block_size": [BLOCK, BLOCK],
        "activation_scheme": "dynamic",
    }
    config = {**json.loads(path.read_text()), "quantization_config": quantization}
    path.write_text(json.dumps(config))
    inputs = checkpoints.inputs_for("tied")
    return checkpoints.Checkpoint(folder=folder, map=checkpoints.suggest(folder), inputs=inputs)


needs_no_fp8 = pytest.mark.skipif(
    torch.cuda.is_available() or int(transformers.__version__.split(".")[0]) < 5,
    reason="fp8 is turned back into bfloat16 where it cannot be computed in",
)


@needs_no_fp8
def test_it_answers_as_the_whole_model(fp8):
    assert "fp8" in read_map(fp8.map).model.quantization
    model = devplan.load(fp8.folder, fp8.map, devices=ALL_CPU, on_difference="warn")
    assert_same(outputs(model, fp8.inputs), outputs(fp8.whole(), fp8.inputs))


@needs_no_fp8
def test_it_is_more_than_was_foretold(fp8):
    with pytest.raises(DeviceMapError, match="the map foretells") as refused:
        devplan.load(fp8.folder, fp8.map, devices=ALL_CPU)
    assert [difference.code for difference in refused.value.findings] == ["memory"]


def test_a_checkpoint_that_is_not_quantized(fp8, tied):
    """The map is of packed weights, and these are not."""
    with pytest.raises(InputError, match="is not quantized, the map is of fp8") as refused:
        devplan.load(tied.folder, fp8.map, devices=ALL_CPU)
    assert "\n" not in str(refused.value)
