"""``--quantize``: planned, loaded by the map, as large as foretold; with bitsandbytes itself."""

from __future__ import annotations

import pytest
import torch

import devplan
from devplan.mapfile.read import read_map
from tests.loader import checkpoints
from tests.loader.checkpoints import ALL_CPU, assert_same, outputs

pytest.importorskip("bitsandbytes")

CONFIGS = {
    "4bit": "4bit",
    "8bit": "8bit",
    "nf4": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
    },
    "skips": {"load_in_8bit": True, "llm_int8_skip_modules": ["lm_head", "mlp"]},
}
# [pictures] the kernel of 4 bit on CPUs takes no rows of fewer than 64 weights, which these have.
CASES = [*(("tied", name) for name in CONFIGS), ("experts", "4bit"), ("pictures and text", "8bit")]


@pytest.mark.parametrize(("name", "config"), CASES, ids=str)
def test_it_loads_and_answers_as_the_quantized_model(name, config, tmp_path):
    folder, inputs, quantize = tmp_path / "model", checkpoints.inputs_for(name), CONFIGS[config]
    checkpoints.MODELS[name]().to(torch.bfloat16).save_pretrained(folder)
    found = devplan.suggest(
        str(folder), "3x512MiB", devplan.Workload(context=32), quantize=quantize
    )
    map_file = tmp_path / "quantized.yaml"
    devplan.write_map(found, map_file)
    content = read_map(map_file)
    assert content.verification.status == "clean"
    assert devplan.check(str(folder), map_file).is_clean
    model = devplan.load(folder, map_file, devices=ALL_CPU)
    kinds = {type(module).__name__ for module in model.modules()}
    assert kinds & {"Linear4bit", "Linear8bitLt"}
    foretold = sum(load.weight_bytes + load.buffer_bytes for load in content.loads)
    assert bytes_of(model) == foretold
    whole = type(model).from_pretrained(
        folder,
        dtype="bfloat16",
        quantization_config=devplan.core.quantize_config(content.model.quantize),
    )
    assert_same(outputs(model, inputs), outputs(whole, inputs))


def bytes_of(model: torch.nn.Module) -> int:
    """What lies in memory of parameters, buffers and what bitsandbytes keeps beside them."""
    found = {}
    for tensor in (*model.parameters(), *model.buffers()):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        state = getattr(tensor, "quant_state", None)
        beside = [getattr(tensor, "SCB", None)]
        while state is not None:
            beside += [state.absmax, state.code, getattr(state, "offset", None)]
            state = state.state2
        for each in beside:
            if each is not None:
                found[each.untyped_storage().data_ptr()] = each.numel() * each.element_size()
    return sum(found.values())
