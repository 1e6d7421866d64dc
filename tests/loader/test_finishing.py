"""What `load` puts on a model: the embedding patch where it is needed, diagnosis where asked."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import devplan
from devplan import runtime as live
from devplan.core.types import Verification
from devplan.diagnosis.attached import AttachedModel
from devplan.mapfile.read import read_map
from devplan.runtime.caching import transfer_cache_of
from devplan.runtime.patching import patched_embeddings
from tests.loader.checkpoints import ALL_CPU, CPU_AND_DISK, assert_same, outputs

AWAY = {"model": "cuda:0", "model.embed_tokens": "cuda:1", "lm_head": "cuda:0"}
"""The code of ``model`` runs on cuda:0 and mixes what its first embedding gives on cuda:1."""


def unverified(experts, device_map):
    map_file = read_map(experts.map)
    verification = Verification(status="unverified", detail="written by hand")
    return replace(map_file, device_map=device_map, verification=verification)


def load(experts, map_file, **more):
    return devplan.load(experts.folder, map_file, devices=ALL_CPU, **more)


def test_a_map_that_was_proven_is_not_run_again(experts, monkeypatch):
    monkeypatch.setattr(live, "needed_patch", None)
    assert not patched_embeddings(load(experts, experts.map))


def test_a_map_that_needs_the_patch_gets_it(experts, caplog):
    model = load(experts, unverified(experts, AWAY))
    assert [each.name for each in patched_embeddings(model)] == ["model.embed_tokens"]
    (said,) = [r.getMessage() for r in caplog.records if "patched" in r.getMessage()]
    assert "model.embed_tokens patched" in said and "devplan check" in said
    assert_same(outputs(model, experts.inputs), outputs(experts.whole(), experts.inputs))


def test_the_patch_can_be_refused(experts):
    model = load(experts, unverified(experts, AWAY), patch_embeddings=False)
    assert not patched_embeddings(model)


def test_a_map_that_needs_none_gets_none(experts, caplog):
    map_file = unverified(experts, read_map(experts.map).device_map)
    with caplog.at_level(logging.INFO, logger="devplan"):
        model = load(experts, map_file)
    assert not patched_embeddings(model)
    assert any("no embedding needs a patch" in r.getMessage() for r in caplog.records)


def test_what_was_proven_with_other_releases_is_run_again(experts, caplog):
    map_file = read_map(experts.map)
    older = replace(map_file, versions={**map_file.versions, "accelerate": "1.14.0"})
    with caplog.at_level(logging.INFO, logger="devplan"):
        load(experts, older)
    assert any("was run virtually" in r.getMessage() for r in caplog.records)


def test_diagnosis_is_attached_where_it_is_asked_for(tied):
    model = devplan.load(tied.folder, tied.map, devices=ALL_CPU, diagnose=True)
    assert isinstance(vars(model)["forward"], AttachedModel)
    assert_same(outputs(model, tied.inputs), outputs(tied.whole(), tied.inputs))
    set_weight = torch.nn.Parameter(torch.empty(64, device="meta"))
    model.model.norm.weight = set_weight
    with pytest.raises(RuntimeError) as failed:
        outputs(model, tied.inputs)
    told = "\n".join(getattr(failed.value, "__notes__", [])) + str(failed.value)
    assert "model.norm" in told
    plain = devplan.load(tied.folder, tied.map, devices=ALL_CPU)
    assert not isinstance(vars(plain)["forward"], AttachedModel)


SHORT_OF_MEMORY = """
import resource
import sys
import torch
import devplan
from transformers import LlamaConfig, LlamaForCausalLM
from devplan.machine import parse_gpus
from devplan.workflows.suggesting import suggest
from devplan.core.workload import Workload

folder = sys.argv[1]
sizes = dict(hidden_size=512, intermediate_size=1024, num_hidden_layers=1, num_attention_heads=4)
LlamaForCausalLM(LlamaConfig(vocab_size=50_000, **sizes)).save_pretrained(folder)
work = Workload(context=64)
map_file = suggest(folder, parse_gpus("2x1GiB"), work, verify=False).map_file
devices = {"cuda:0": "cpu", "cuda:1": "cpu"}
devplan.load(folder, map_file, devices=devices)
with open("/proc/self/statm") as statm:
    held = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 20 * 2**20,) * 2)
devplan.load(folder, map_file, devices=devices)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_load_that_runs_out_of_memory_is_explained(tmp_path):
    """A real one: the process may not have the memory that the checkpoint takes."""
    ran = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, str(tmp_path)], capture_output=True, text=True
    )
    assert ran.returncode == 1
    assert "devplan: out of memory" in ran.stderr
    assert "note: the model was being loaded, and nothing had run" in ran.stderr


def test_tensors_are_moved_once_where_it_is_asked_for(tied):
    model = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK, cache_transfers=True)
    assert transfer_cache_of(model) is not None
    plain = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    assert transfer_cache_of(plain) is None
    assert_same(outputs(model, tied.inputs), outputs(plain, tied.inputs))
    assert devplan.audit(model, tied.map, devices=CPU_AND_DISK).is_clean


def test_everything_at_once_and_another_map_afterwards(experts):
    """Patch, cache and diagnosis on one model, which is then spread anew."""
    model = load(experts, unverified(experts, AWAY), diagnose=True, cache_transfers=True)
    expected = outputs(experts.whole(), experts.inputs)
    assert_same(outputs(model, experts.inputs), expected)
    cache = transfer_cache_of(model)
    devplan.apply(model, experts.map, devices=CPU_AND_DISK)
    assert transfer_cache_of(model) is cache  # which was asked for before
    assert_same(outputs(model, experts.inputs), expected)
    assert cache.last.num_forwards == 1


def test_nothing_is_changed_beyond_the_map(tied):
    """Loaded by devplan, and dispatched by accelerate alone: the same modules and attributes."""
    from accelerate import dispatch_model

    model = devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    plain = dispatch_model(
        type(model).from_pretrained(tied.folder, dtype=model.dtype),
        model.hf_device_map,
        main_device="cpu",
        offload_dir=str(tied.folder / "offloaded"),
        force_hooks=True,
    )
    assert model.config.to_dict() == plain.config.to_dict()
    modules, others = dict(model.named_modules()), dict(plain.named_modules())
    assert list(modules) == list(others)
    for name, module in modules.items():
        other = others[name]
        assert type(module) is type(other) and module.training == other.training
        assert {*vars(module)} - {*vars(other)} <= {"_hf_hook", "_old_forward", "forward"}, name
    for (name, ours), (_, theirs) in zip(
        model.named_parameters(), plain.named_parameters(), strict=True
    ):
        assert (ours.dtype, ours.requires_grad) == (theirs.dtype, theirs.requires_grad), name


def test_each_change_is_logged(tied, caplog):
    caplog.set_level("INFO", logger="devplan")
    devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK)
    assert not [said for said in caplog.messages if "caches" in said or "explains" in said]
    asked = {"cache_transfers": True, "diagnose": True}
    devplan.load(tied.folder, tied.map, devices=CPU_AND_DISK, **asked)
    assert "LlamaForCausalLM caches its transfers" in caplog.messages
    assert "LlamaForCausalLM explains its own failures" in caplog.messages
