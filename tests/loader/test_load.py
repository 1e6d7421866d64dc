"""What `devplan.load` gives answers as the model loaded whole, to the bit, and is audited."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace

import pytest
import torch

import devplan
from devplan.core.errors import InputError
from devplan.mapfile.read import read_map
from devplan.virtual.hooks import hook_device, is_dispatched
from tests.loader import checkpoints
from tests.loader.checkpoints import ALL_CPU, CPU_AND_DISK, assert_same, outputs


@pytest.mark.parametrize("stand_ins", [ALL_CPU, CPU_AND_DISK], ids=["cpu", "cpu and disk"])
@pytest.mark.parametrize("name", checkpoints.MODELS)
def test_it_answers_as_the_whole_model(checkpoint_of, name, stand_ins):
    checkpoint = checkpoint_of(name)
    assert len(set(read_map(checkpoint.map).device_map.values())) > 1, "nothing is split"
    model = devplan.load(checkpoint.folder, checkpoint.map, devices=stand_ins)
    assert is_dispatched(model)
    assert_same(outputs(model, checkpoint.inputs), outputs(checkpoint.whole(), checkpoint.inputs))


@pytest.mark.parametrize("name", ["tied", "experts", "encoder-decoder"])
def test_an_offloaded_map(checkpoint_of, name):
    """Entries on cpu and disk, and a card for which the CPU stands in."""
    checkpoint = checkpoint_of(name)
    path = checkpoints.with_offload(checkpoint, {"cuda:1": "cpu", "cuda:2": "disk"})
    assert set(read_map(path).device_map.values()) == {"cuda:0", "cpu", "disk"}
    model = devplan.load(checkpoint.folder, path, devices={"cuda:0": "cpu"})
    assert any(parameter.is_meta for parameter in model.parameters())
    assert_same(outputs(model, checkpoint.inputs), outputs(checkpoint.whole(), checkpoint.inputs))


def test_it_generates_as_the_whole_model(tied):
    ids = {"input_ids": tied.inputs["input_ids"]}
    model = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    given = model.generate(**devplan.to_main(model, ids), max_new_tokens=6, do_sample=False)
    assert torch.equal(given, tied.whole().generate(**ids, max_new_tokens=6, do_sample=False))


def test_the_model_of_the_map_is_the_default(tied):
    """The id in the map is the folder that was planned for."""
    model = devplan.load(map=tied.map, devices=ALL_CPU)
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_what_a_map_of_one_device_leaves_out_is_no_difference_beside_the_rest(tied):
    """accelerate is not asked, and transformers ties it to what has an entry."""
    one_card = read_map(checkpoints.suggest(tied.folder, name="one", gpus="1GiB"))
    left_out = replace(one_card, device_map={"model": "cuda:0"})
    model = devplan.load(tied.folder, left_out, devices={"cuda:0": "cpu"})
    assert not is_dispatched(model)
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_ties_are_kept(tied):
    model = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_class_and_dtype_are_those_of_the_map(tied):
    path = checkpoints.suggest(tied.folder, "--dtype", "bfloat16", name="half")
    model = devplan.load(tied.folder, path, devices=ALL_CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert type(model).__name__ == read_map(path).model.class_name


def test_arguments_of_from_pretrained_pass_through(tied):
    model = devplan.load(tied.folder, tied.map, devices=ALL_CPU, attn_implementation="eager")
    assert model.config._attn_implementation == "eager"
    model, info = devplan.load(
        tied.folder, tied.map, devices=ALL_CPU, output_loading_info=True, dtype=torch.float32
    )
    assert is_dispatched(model) and "missing_keys" in info


def test_weights_that_are_not_in_the_checkpoint_are_said(tied, tmp_path, caplog):
    whole = tied.whole()
    tensors = {n: t for n, t in whole.state_dict().items() if n != "model.norm.weight"}
    whole.save_pretrained(tmp_path, state_dict=tensors)
    devplan.load(tmp_path, tied.map, devices=ALL_CPU)
    (said,) = [r.getMessage() for r in caplog.records if "made-up values" in r.getMessage()]
    assert said.startswith("1 tensors are not in") and "model.norm.weight" in said


def test_code_that_comes_with_the_model(place, modules_cache):
    """Its class is reached through the auto class that the map names."""
    folder = place / "own"
    checkpoints.tied_llama().save_pretrained(folder)
    (folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\nclass OwnForCausalLM(LlamaForCausalLM): pass\n"
    )
    path = folder / "config.json"
    named = {"AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    config = json.loads(path.read_text()) | {"architectures": ["OwnForCausalLM"], "auto_map": named}
    path.write_text(json.dumps(config))
    written = checkpoints.suggest(folder, "--trust-remote-code")
    assert read_map(written).model.auto_class == "AutoModelForCausalLM"
    with pytest.raises(InputError, match="if you trust it give trust_remote_code=True"):
        devplan.load(folder, written, devices=ALL_CPU)
    model = devplan.load(folder, written, devices=ALL_CPU, trust_remote_code=True)
    assert type(model).__name__ == "OwnForCausalLM" and is_dispatched(model)


def test_shapes_alone(tied):
    """On the meta device nothing has values, and every hook is there."""
    model = devplan.load(tied.folder, tied.map, devices=dict.fromkeys(ALL_CPU, "meta"))
    assert all(parameter.is_meta for parameter in model.parameters())
    assert hook_device(model) == "meta"
    assert model(**devplan.to_main(model, tied.inputs)).logits.shape == (2, 9, 512)


def test_hooks_of_every_entry(tied):
    model = devplan.load(tied.folder, tied.map, devices=ALL_CPU)
    for entry in read_map(tied.map).device_map:
        assert hook_device(model.get_submodule(entry)) == "cpu"


def test_the_log_says_what_lies_where(tied, caplog):
    with caplog.at_level(logging.INFO, logger="devplan"):
        devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    said = "\n".join(record.getMessage() for record in caplog.records)
    assert "loading LlamaForCausalLM" in said
    (on_disk,) = re.findall(r"disk: (.+) of weights and buffers, (.+) predicted", said)
    assert on_disk[0] == on_disk[1]


def test_a_diffusers_model(place):
    """As it is loaded whole: bits depend on where in the file a weight begins."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model_class = diffusers.FluxTransformer2DModel
    folder = place / "flux"
    model_class(
        in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    ).save_pretrained(folder, max_shard_size="60KB")  # fmt: skip
    path = checkpoints.suggest(folder)
    inputs = {
        "hidden_states": torch.randn(1, 16, 4),
        "encoder_hidden_states": torch.randn(1, 8, 32),
        "pooled_projections": torch.randn(1, 32),
        "timestep": torch.ones(1),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(8, 3),
    }
    model = devplan.load(folder, path, devices=ALL_CPU)
    assert type(model) is model_class and is_dispatched(model)
    expected = outputs(model_class.from_pretrained(folder), inputs)
    assert_same(outputs(model, inputs), expected)
    offloaded = devplan.load(folder, path, devices=CPU_AND_DISK)
    torch.testing.assert_close(outputs(offloaded, inputs), expected)


@pytest.mark.parametrize(
    "devices, fact",
    [
        ({"cuda:7": "cpu"}, "cuda:7 is not a GPU of"),
        ({"cuda:0": "disk"}, "nothing runs on disk"),
        ({"cuda:0": "gpu"}, "is not a device"),
        ({"gpu": "cpu"}, "is not a device"),
    ],
)
def test_stand_ins_that_make_no_sense(tied, devices, fact):
    with pytest.raises(InputError, match=fact) as refused:
        devplan.load(tied.folder, tied.map, devices=devices)
    assert "\n" not in str(refused.value)


def test_a_folder_that_is_not_there(tied):
    with pytest.raises(InputError, match=r"there is no folder ./nowhere here"):
        devplan.load("./nowhere", tied.map, devices=ALL_CPU)


def test_a_bare_map_names_no_class(tied):
    with pytest.raises(InputError, match="names no class"):
        devplan.load(tied.folder, {"": 0})
