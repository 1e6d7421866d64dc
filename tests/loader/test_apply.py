"""`devplan.apply`: a model that is built already."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import nn

import devplan
from devplan.core.errors import InputError
from devplan.loader.dispatching import settle
from devplan.loader.target import target_of
from devplan.mapfile.read import read_map
from devplan.virtual.hooks import hook_device, is_dispatched
from tests.loader import checkpoints
from tests.loader.checkpoints import ALL_CPU, CPU_AND_DISK, assert_same, outputs


@pytest.mark.parametrize("stand_ins", [ALL_CPU, CPU_AND_DISK], ids=["cpu", "cpu and disk"])
@pytest.mark.parametrize("name", checkpoints.MODELS)
def test_it_answers_as_before(checkpoint_of, name, stand_ins):
    checkpoint = checkpoint_of(name)
    model = checkpoint.whole()
    before = outputs(model, checkpoint.inputs)
    assert devplan.apply(model, checkpoint.map, devices=stand_ins) is model
    assert is_dispatched(model)
    assert_same(outputs(model, checkpoint.inputs), before)


def test_one_map_after_another(experts):
    """A dispatched model is taken apart: what waited on disk comes back."""
    model = experts.whole()
    before = outputs(model, experts.inputs)
    for stand_ins in (CPU_AND_DISK, {**ALL_CPU, "cuda:1": "disk"}, CPU_AND_DISK, ALL_CPU):
        devplan.apply(model, experts.map, devices=stand_ins)
        assert_same(outputs(model, experts.inputs), before)
    assert not any(parameter.is_meta for parameter in model.parameters())


def test_a_model_of_from_pretrained_whose_weights_wait_on_disk(tied):
    device_map = devplan.device_map(tied.map, devices=CPU_AND_DISK)
    model = tied.whole(device_map=device_map)
    assert any(parameter.is_meta for parameter in model.parameters())
    devplan.apply(model, tied.map, devices=ALL_CPU)
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_ties_are_kept(tied):
    model = tied.whole()
    devplan.apply(model, tied.map, devices=CPU_AND_DISK)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_bare_map(tied):
    model = tied.whole()
    devplan.apply(model, {"model": "cpu", "model.layers": "disk", "lm_head": "cpu"})
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_an_entry_inside_one_that_is_offloaded(tied):
    """accelerate would lose the inner weights."""
    bare = {"model": "disk", "model.embed_tokens": "cpu", "lm_head": "cpu"}
    with pytest.raises(InputError, match="on cpu lies inside 'model' on disk"):
        devplan.apply(tied.whole(), bare)


def test_a_module_of_the_users():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)).eval()
    x = torch.ones(1, 4)
    before = model(x)
    devplan.apply(model, {"0": "cpu", "1": "disk", "2": "cpu"})
    assert torch.equal(model(x), before)


class Bare(nn.Module):
    """A tensor that has an entry of its own, and a buffer that is not saved."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.register_buffer("shift", torch.ones(4), persistent=False)

    def forward(self, x):
        return self.second(self.first(x) * self.scale) + self.second.shift


def test_bare_tensors_and_buffers_that_are_not_saved():
    model = Bare().eval()
    x = torch.ones(1, 4)
    before = model(x)
    devplan.apply(model, {"scale": "cpu", "first": "cpu", "second": "disk"})
    assert torch.equal(model(x), before)


def test_a_map_of_another_model(tied):
    other = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=32, n_embd=8, n_layer=1, n_head=1)
    )
    with pytest.raises(InputError, match=r"has no module 'model.embed_tokens'") as refused:
        devplan.apply(other, tied.map, devices=ALL_CPU)
    line, entries = str(refused.value), read_map(tied.map).device_map
    assert "\n" not in line and "GPT2LMHeadModel has no module" in line
    assert set(entries) & {name for name, _ in other.named_modules()} == {"lm_head"}
    assert f"({len(entries) - 1} of {len(entries)} entries are strange to it)" in line
    # It is said where the entry stands.
    file, number, _ = line.split(":", 2)
    assert file == str(tied.map)
    entry = tied.map.read_text(encoding="utf-8").splitlines()[int(number) - 1]
    assert entry.strip().startswith("model.embed_tokens:")
    assert not is_dispatched(other)


@pytest.mark.parametrize("strange", ["modle", "model.layers.99", "lm_head.wieght"])
def test_an_entry_of_a_mapping_that_the_model_does_not_have(tied, strange):
    entries = {"model": "cpu", "lm_head": "cpu", strange: "cpu"}
    with pytest.raises(InputError) as refused:
        devplan.apply(tied.whole(), entries)
    where, _, said = str(refused.value).partition(": ")
    assert not where.rpartition(":")[2].isdigit()
    assert f"has no module {strange!r} (1 of 3 entries are strange to it)" in said


@pytest.mark.parametrize(
    "known", ["model.layers.0.mlp.up_proj.weight", "model.rotary_emb.inv_freq"]
)
def test_an_entry_may_name_a_tensor(tied, known):
    model = devplan.apply(tied.whole(), {"model": "cpu", "lm_head": "cpu", known: "cpu"})
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_a_model_without_weights(tied):
    config = tied.whole().config
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    with pytest.raises(InputError, match="without values"):
        devplan.apply(model, tied.map, devices=ALL_CPU)


def test_a_map_that_does_not_cover_the_model(tied):
    model = tied.whole()
    with pytest.raises(InputError, match="are in no entry of the map, such as lm_head"):
        devplan.apply(model, {"model": "cpu"}, devices={})


def test_a_failure_leaves_the_model_and_no_folder(tied, tmp_path):
    """The map does not cover the model: found before anything is written."""
    model, folder = tied.whole(), tmp_path / "offload"
    with pytest.raises(InputError):
        devplan.apply(model, {"model": "disk"}, offload_folder=folder)
    assert list(tmp_path.iterdir()) == []
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_the_main_device_of_the_map_wins(tmp_path):
    """accelerate takes the only device that is neither cpu nor disk; the map says the CPU.

    Three kinds of devices are here: cpu, disk and meta, which has no values but has hooks.  OPT
    has no buffers, whose values would be lost there.
    """
    config = transformers.OPTConfig(
        vocab_size=32, hidden_size=16, ffn_dim=16, num_hidden_layers=3, num_attention_heads=2,
        word_embed_proj_dim=16, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    whole = transformers.OPTForCausalLM(config)
    whole.save_pretrained(tmp_path)
    layers = {f"model.decoder.layers.{index}": f"cuda:{index}" for index in range(3)}
    ends = ("embed_tokens", "embed_positions", "final_layer_norm")
    device_map = {**{f"model.decoder.{name}": "cuda:0" for name in ends}, **layers}
    device_map["lm_head"] = "cuda:0"
    target = target_of(device_map, {"cuda:0": "cpu", "cuda:1": "meta", "cuda:2": "disk"})
    assert target.main_device == "cpu"
    model = type(whole).from_pretrained(tmp_path, device_map=target.hf_device_map)
    assert hook_device(model) == "meta"
    settle(model, target)
    assert devplan.audit(
        model, device_map, devices={"cuda:0": "cpu", "cuda:1": "meta", "cuda:2": "disk"}
    ).is_clean
    assert torch.equal(model.lm_head.weight, whole.lm_head.weight)
    assert torch.equal(
        model.model.decoder.layers[0].fc1.weight, whole.model.decoder.layers[0].fc1.weight
    )


def test_tied_weights_that_both_wait_on_disk_are_one_file(tied, tmp_path):
    """accelerate writes each name of a tensor to a file of its own."""
    model = tied.whole()
    device_map = dict.fromkeys(("model.embed_tokens", "model.layers", "lm_head"), "disk")
    device_map |= {"model.norm": "cpu", "model.rotary_emb": "cpu"}
    folder = tmp_path / "weights"
    devplan.apply(model, device_map, offload_folder=folder)
    files = [folder / f"{name}.weight.dat" for name in ("model.embed_tokens", "lm_head")]
    assert files[0].samefile(files[1])
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))


def test_files_of_tied_weights_that_were_made_two_are_a_difference(tied, tmp_path):
    model = tied.whole()
    device_map = dict.fromkeys(("model.embed_tokens", "model.layers", "lm_head"), "disk")
    device_map |= {"model.norm": "cpu", "model.rotary_emb": "cpu"}
    folder = tmp_path / "weights"
    devplan.apply(model, device_map, offload_folder=folder)
    head = folder / "lm_head.weight.dat"
    content = head.read_bytes()
    head.unlink()
    head.write_bytes(content)
    (found,) = devplan.audit(model, device_map).findings
    assert found.code == "tie" and found.module == "lm_head.weight"


class ReadsAWeight(nn.Module):
    """Code that takes a submodule's weight without calling it."""

    def __init__(self):
        super().__init__()
        self.queries, self.out = nn.Embedding(3, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.out(x + self.queries.weight)


class TwoReaders(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(ReadsAWeight() for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_weights_of_a_class_come_at_once_where_its_code_reads_them(tmp_path):
    torch.manual_seed(0)
    model, x, device_map = TwoReaders(), torch.ones(3, 4), {"layers.0": "cpu", "layers.1": "disk"}
    before = model(x)
    devplan.apply(model, device_map, offload_folder=tmp_path / "a")
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        model(x)
    devplan.apply(
        model, device_map, offload_folder=tmp_path / "b", preload_module_classes=["ReadsAWeight"]
    )
    assert torch.equal(model(x), before)
    assert model.layers[1].queries.weight.is_meta


def test_a_class_that_no_module_is_of_is_refused():
    with pytest.raises(
        InputError, match="no module is a 'ReadsAWeigth'; did you mean ReadsAWeight"
    ):
        devplan.apply(TwoReaders(), {"": "cpu"}, preload_module_classes=["ReadsAWeigth"])
