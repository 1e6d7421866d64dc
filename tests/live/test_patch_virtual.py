"""The patch cures the mismatch that it is for: real code and hooks, on cards that are not here.

Outputs of patched models over two virtual cards are those of plain PyTorch, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

import devplan
from devplan.core.findings import RunRecord
from devplan.runtime.patching import input_embedding_names, patched_embeddings
from devplan.virtual.calls import ModelCall
from tests.live.placed import Around, generate_call, run_placed
from tests.virtual import tiny
from tests.virtual.test_fidelity import tensors_of

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
AWAY = {"model": 0, "model.embed_tokens": 1, "lm_head": 0}
"""The code of ``model`` runs on cuda:0, and its first embedding comes from cuda:1."""


def away(model_type: str) -> tuple[nn.Module, dict[str, str]]:
    """A tiny model with untied weights, and a map with its input embedding on the other card."""
    model = tiny.real_model(model_type)
    whole = {name: "cuda:0" for name, _ in model.named_children()}
    (embedding,) = input_embedding_names(model)
    return model, {**whole, embedding: "cuda:1"}


class Case:
    """A call of a tiny model, and what plain PyTorch gives for it on one device."""

    def __init__(self, model: nn.Module, call: ModelCall | Around) -> None:
        self.model, self.call = model, call
        self.inputs = call.takes(model, tiny.real_inputs(model.config.model_type))
        with torch.no_grad():
            self.expected = tensors_of(call.run(model, self.inputs))

    def run(self, device_map: Mapping[str, str]) -> tuple[RunRecord, list]:
        return run_placed(self.model, self.inputs, device_map, self.call)


def same(given: list, expected: list) -> bool:
    return len(given) == len(expected) > 0 and all(map(torch.equal, given, expected))


# ------------------------------------------------------------------------------------ real classes


def test_full_size_and_the_advice():
    advice = devplan.needed_patch(LLAMA, AWAY)
    assert advice.before.errors and advice.is_needed and advice.cures
    assert (advice.names, advice.device) == (("model.embed_tokens",), None)
    assert advice.after.runs[0].phases == ("prefill", "decode 1", "decode 2")


def test_no_advice_where_nothing_fails():
    advice = devplan.needed_patch(LLAMA, {"model": 0, "lm_head": 1})
    assert not advice.is_needed and advice.after is None and not advice.before.errors


def test_no_advice_where_the_patch_does_not_help():
    # rotary_emb has no entry's hook that moves anything: its buffer lies on another card
    split = {"model": 0, "model.layers.3.self_attn": 1, "model.layers.3.mlp": 1, "lm_head": 0}
    advice = devplan.needed_patch(LLAMA, {**split, "model.layers.4.self_attn.q_proj.weight": 1})
    assert advice.before.errors and not advice.is_needed and not advice.cures


def test_the_skeleton_is_left_as_it_was():
    devplan.needed_patch(LLAMA, AWAY)
    assert devplan.check(LLAMA, AWAY).errors


# ------------------------------------------------------------------------------------- live models


def test_a_live_model_is_clean_once_it_is_patched():
    model, device_map = away("llama")
    assert devplan.check(model, device_map).errors
    devplan.patch_embeddings(model)
    assert devplan.check(model, device_map).is_clean
    assert patched_embeddings(model)
    devplan.unpatch_embeddings(model)
    assert devplan.check(model, device_map).errors


@pytest.mark.parametrize(
    ("model_type", "arguments"),
    [("llama", {}), ("llama", {"num_beams": 3}), ("mixtral", {})],
)
def test_outputs_are_those_of_one_device(model_type, arguments):
    model, device_map = away(model_type)
    case = Case(model, generate_call(model, **arguments))
    record, _ = case.run(device_map)
    assert record.mismatches
    devplan.patch_embeddings(model)
    record, given = case.run(device_map)
    assert not record.mismatches and record.error is None and same(given, case.expected)


def test_it_does_no_harm_where_it_is_not_needed():
    model, device_map = away("qwen2_vl")
    case = Case(model, generate_call(model))
    assert not case.run(device_map)[0].mismatches
    devplan.patch_embeddings(model)
    record, given = case.run(device_map)
    assert not record.mismatches and same(given, case.expected)


def test_patched_after_accelerate():
    model, device_map = away("llama")
    call = Around(
        inner=generate_call(model),
        before=lambda model: devplan.patch_embeddings(model) and model,
        after=devplan.unpatch_embeddings,
    )
    case = Case(model, call)
    record, given = case.run(device_map)
    assert not record.mismatches and record.error is None and same(given, case.expected)
    assert patched_embeddings(model) == ()


def test_offloaded_embedding():
    model, _ = away("llama")
    case = Case(model, generate_call(model))
    # the code of `model` runs on cuda:1; offloaded weights are brought to the main device, cuda:0
    device_map = {"model": "cuda:1", "model.embed_tokens": "cpu", "lm_head": "cuda:1"}
    record, _ = case.run(device_map)
    assert record.mismatches
    devplan.patch_embeddings(model)
    record, given = case.run(device_map)
    assert not record.mismatches and record.error is None and same(given, case.expected)


# ------------------------------------------------------------------------------------ fixed devices


class CarriesIds(nn.Module):
    """Code that brings the ids to the weight itself, as Llama 4 does, and nothing back."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(50, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(3))
        self.scale = nn.Linear(8, 8)

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        hidden = self.embed_tokens(input_ids.to(self.embed_tokens.weight.device))
        hidden = hidden + torch.arange(input_ids.shape[1], device=input_ids.device)[None, :, None]
        for layer in self.layers:
            hidden = layer(hidden)
        return self.scale(hidden)


def carries_ids() -> nn.Module:
    with torch.device("meta"):
        return CarriesIds().eval()


def test_the_main_device_where_the_code_carries_the_ids(tmp_path):
    (tmp_path / "inputs.py").write_text(
        "import torch\n\ndef inputs(model, config):\n"
        "    return {'input_ids': torch.arange(10).view(2, 5)}\n"
    )
    options = devplan.RunOptions(inputs=f"{tmp_path / 'inputs.py'}:inputs")
    advice = devplan.needed_patch(
        f"{__name__}:carries_ids",
        {"embed_tokens": 1, "layers": 0, "scale": 0},
        options=options,
    )
    assert (advice.names, advice.device) == (("embed_tokens",), "cuda:0") and advice.cures
