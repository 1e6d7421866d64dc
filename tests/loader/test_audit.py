"""The audit sees every way in which a model may not be what its map says, one at a time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils import set_module_tensor_to_device
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import devplan
from devplan.core.errors import DeviceMapError
from devplan.loader.auditing import audit_line
from devplan.mapfile.read import read_map
from devplan.virtual.hooks import align_hooks, offloaded_weights
from tests.loader.checkpoints import ALL_CPU, CPU_AND_DISK, layers_on


@pytest.fixture
def model(tied):
    return devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)


def audit(model, tied, devices=CPU_AND_DISK):
    return devplan.audit(model, tied.map, devices=devices)


def only(found, kind):
    """The one difference that there is."""
    (difference,) = found.findings
    assert difference.code == kind
    return difference


def test_a_loaded_model_is_clean(model, tied):
    found = audit(model, tied)
    assert found.is_clean and found.num_tensors > 30
    assert {use.device: use.placed_bytes == use.predicted_bytes for use in found.uses} == {
        "cpu": True,
        "disk": True,
    }
    assert "no differences" in str(found)
    found.raise_for_findings()


def test_a_tensor_that_lies_elsewhere(model, tied):
    set_module_tensor_to_device(model.model.norm, "weight", "meta")
    difference = only(audit(model, tied), "meta")
    assert difference.module == "model.norm.weight"
    lines = tied.map.read_text().splitlines()
    number = lines.index("  model.norm: 0") + 1
    assert audit_line(difference).startswith(
        f"{tied.map}:{number}: model.norm: cuda:0: model.norm.weight"
    )
    assert "is on meta, without values, not on cpu" in audit_line(difference)


def test_a_tensor_that_was_spilled(model, tied):
    """The model of one machine, the map of another: what is on disk should be on the CPU."""
    devices = {**CPU_AND_DISK, "cuda:1": "cpu"}
    found = audit(model, tied, devices)
    spilled = next(d for d in found.findings if d.code == "place")
    assert spilled.module.startswith(f"{layers_on(tied, 'cuda:1')[0]}.")
    assert "was offloaded to disk" in spilled.message
    with pytest.raises(DeviceMapError, match="is not what") as refused:
        found.raise_for_findings()
    assert refused.value.findings == found.findings
    assert len(str(refused.value).splitlines()) == 1 + len(found.findings)


def test_a_tensor_that_was_to_wait_and_does_not(model, tied):
    layer = model.get_submodule(layers_on(tied, "cuda:2")[0]).mlp.up_proj
    set_module_tensor_to_device(layer, "weight", "cpu", value=torch.zeros(128, 64))
    kinds = {difference.code for difference in audit(model, tied).findings}
    assert "place" in kinds


def test_a_tensor_that_waits_nowhere(model, tied):
    layer = layers_on(tied, "cuda:2")[0]
    del offloaded_weights(model).index[f"{layer}.mlp.up_proj.weight"]
    difference = only(audit(model, tied), "meta")
    assert "is on meta without values" in difference.message


def test_a_file_on_disk_that_is_gone(experts, tmp_path):
    folder = tmp_path / "offload"
    model = devplan.load(experts.folder, experts.map, devices=CPU_AND_DISK, offload_folder=folder)
    next(folder.glob("*gate_up_proj*")).unlink()
    found = devplan.audit(model, experts.map, devices=CPU_AND_DISK)
    assert "is on meta without values" in only(found, "meta").message


def test_a_module_without_a_hook(model, tied):
    remove_hook_from_module(model.model.norm)
    difference = only(audit(model, tied), "hook")
    assert difference.message == "model.norm has no hook"


def test_a_container_needs_no_hook_and_what_holds_a_tensor_does(model, tied):
    """accelerate hooks both; by hand, or with fewer hooks, what holds nothing itself is spared."""
    layer = layers_on(tied, "cuda:0")[0]
    container = model.get_submodule(layer).mlp
    remove_hook_from_module(container)
    remove_hook_from_module(model.model.layers)
    assert audit(model, tied).is_clean
    remove_hook_from_module(container.up_proj)
    difference = only(audit(model, tied), "hook")
    assert difference.message == f"{layer}.mlp.up_proj has no hook"


def test_modules_with_the_same_fault_are_told_once(model, tied):
    layer = layers_on(tied, "cuda:0")[0]
    for name in ("up_proj", "down_proj"):
        remove_hook_from_module(model.get_submodule(layer).mlp.get_submodule(name))
    text = only(audit(model, tied), "hook").message
    assert "and 1 more: each has no hook" in text and f"{layer}.mlp." in text


def test_a_module_that_runs_elsewhere(model, tied):
    (hook,) = align_hooks(model.model.norm)
    hook.execution_device = "meta"
    assert only(audit(model, tied), "hook").message == "model.norm runs at meta, not at cpu"


def test_inputs_that_enter_elsewhere(model, tied):
    add_hook_to_module(model, AlignDevicesHook(execution_device="meta", io_same_device=True))
    assert "inputs were to enter at cpu" in only(audit(model, tied), "hook").message


def test_hooks_that_another_module_has_too(model, tied):
    """accelerate makes a SequentialHook where a second hook is added."""

    class Other(AlignDevicesHook):
        pass

    add_hook_to_module(model.model.norm, Other(), append=True)
    assert len(list(align_hooks(model.model.norm))) == 2
    assert audit(model, tied).is_clean


def test_ties_that_came_apart(model, tied):
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    found = audit(model, tied)
    difference = next(d for d in found.findings if d.code == "tie")
    assert "lm_head.weight and model.embed_tokens.weight are tied" in difference.message
    # the second copy is more than was foretold, too
    assert [d.code for d in found.findings] == ["tie", "memory"]


def test_more_bytes_than_foretold(tied):
    model = tied.whole(dtype=torch.float32).to(torch.float64)
    devplan.apply(model, tied.map, devices=ALL_CPU, on_difference="warn")
    assert only(devplan.audit(model, tied.map, devices=ALL_CPU), "memory").module == "cpu"


def test_a_model_that_was_never_dispatched(tied):
    found = devplan.audit(tied.whole(), tied.map)
    assert {d.code for d in found.findings} == {"place", "hook"}
    assert len(found.findings) < 30, "one line for each entry and kind, not for each tensor"


def test_one_device_needs_no_hooks(tied):
    found = devplan.audit(tied.whole(), {"": "cpu"})
    assert found.is_clean


def test_a_tensor_that_no_entry_governs(tied):
    """Beside the rest on one device it lies as transformers puts it; elsewhere it is a stranger."""
    assert devplan.audit(tied.whole(), {"model": "cpu"}).is_clean
    found = devplan.audit(tied.whole(), {"model": "cuda:0"})
    texts = [each.message for each in found.findings if "lm_head" in each.message]
    assert any("no entry of the map says where" in text for text in texts)


def test_warn_instead_of_raise(tied, caplog):
    map_file = read_map(tied.map)
    loads = tuple(replace(load, weight_bytes=1024) for load in map_file.loads)
    shrunk = replace(map_file, loads=loads)
    with pytest.raises(DeviceMapError):
        devplan.load(tied.folder, shrunk, devices=ALL_CPU)
    devplan.load(tied.folder, shrunk, devices=ALL_CPU, on_difference="warn")
    assert any("the map foretells" in record.getMessage() for record in caplog.records)


LAYERS = 3
WIDTH = 8


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["cuda:0", "cuda:1", "cuda:2"]), min_size=LAYERS, max_size=LAYERS))
def test_every_map_that_is_applied_is_clean_and_no_other(devices):
    """Over cpu and disk: the model is what its own map says, and not what another says."""
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=WIDTH, intermediate_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    ends = {"model.embed_tokens": "cuda:0", "model.rotary_emb": "cuda:0", "model.norm": "cuda:0"}
    layers = {f"model.layers.{index}": device for index, device in enumerate(devices)}
    device_map = {**ends, "lm_head": "cuda:0", **layers}
    stand_ins = {"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "cpu"}
    used = {card: here for card, here in stand_ins.items() if card in device_map.values()}
    ids = torch.arange(5)[None]
    before = model(ids).logits
    devplan.apply(model, device_map, devices=used)
    assert torch.equal(model(ids).logits, before)
    assert devplan.audit(model, device_map, devices=used).is_clean
    turned = {**used, "cuda:0": "cpu", "cuda:1": "cpu", "cuda:2": "disk"}
    turned = {card: turned[card] for card in used}
    moved = {device for device in devices if used[device] != turned[device]}
    assert devplan.audit(model, device_map, devices=turned).is_clean is not bool(moved)
