"""Small checkpoints of models of several parts: planned, loaded by the map, the same answers."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import nn

import devplan as devplan_library
from devplan.cli.app import main
from devplan.mapfile.read import read_map
from tests.composites import tiny
from tools.gallery.tiny import inputs_of

STAND_INS = MappingProxyType({"cuda:0": "cpu", "cuda:1": "disk", "cuda:2": "disk"})
CARDS = ("--gpus", "1GiB,512MiB,1GiB", "--context", "64", "--dtype", "float32")


@pytest.fixture
def suggested(tmp_path, monkeypatch):
    """``suggested("bart")``: the model that was saved, and its map in the current folder."""
    monkeypatch.chdir(tmp_path)

    def make(name: str, *more: str) -> nn.Module:
        whole = tiny.save(name, tmp_path / name)
        assert main(["suggest", name, *CARDS, *more, "-o", "map.yaml"]) == 0
        found = read_map("map.yaml")
        assert found.verification.status == "clean", found.verification
        assert len(set(found.device_map.values())) > 1, "nothing is split"
        assert main(["check", "map.yaml", *more]) == 0
        return whole

    return make


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("blip-2", "seamless")]


@pytest.mark.parametrize("name", ["bart", *SLOW])
def test_it_answers_as_the_whole_model(suggested, name):
    whole = suggested(name)
    split = devplan_library.load(map="map.yaml", devices=STAND_INS)
    assert type(split) is type(whole)
    inputs = inputs_of(whole)
    with torch.no_grad():
        expected, answer = whole(**inputs), split(**inputs)
    torch.testing.assert_close(answer.logits, expected.logits)


SPOKEN = """
import torch

def spoken(model, config):
    dit = config.token2wav_config.dit_config
    model.speaker_map["Chelsie"] = {
        "bos_token": 197,
        "cond": torch.zeros(1, dit.enc_emb_dim, device="meta"),
        "ref_mel": torch.zeros(1, 40, dit.mel_dim, device="meta"),
    }
    ids = torch.full((1, 12), 5)
    return {
        "input_ids": ids, "attention_mask": torch.ones_like(ids), "token2wav_num_steps": 2
    }
"""


def test_a_model_that_speaks_is_run_to_the_end_and_says_the_same(suggested, tmp_path):
    (tmp_path / "inputs.py").write_text(SPOKEN)
    whole = suggested("omni", "--inputs", "inputs.py:spoken")
    ran = read_map("map.yaml").verification.detail
    assert "thinker prefill" in ran and "talker decode 2, token2wav" in ran
    # [cpu] its buffers would leave the disk, and weigh more than a hundredth of so small a model.
    split = devplan_library.load(map="map.yaml", devices=dict.fromkeys(STAND_INS, "cpu"))
    (text, sound), (expected_text, expected_sound) = _said(split), _said(whole)
    assert torch.equal(text, expected_text)
    torch.testing.assert_close(sound, expected_sound)


def _said(model: nn.Module) -> Any:
    """Text and sound, with the same noise to start from."""
    torch.manual_seed(3)
    ids = torch.arange(5, 17)[None]
    with torch.no_grad():
        return model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            thinker_max_new_tokens=4,
            talker_max_new_tokens=6,
            talker_do_sample=False,
            thinker_do_sample=False,
            token2wav_num_steps=3,
        )
