"""The map of a written file goes into ``from_pretrained(device_map=...)`` as it is.

No GPU is needed: the cards of the map become ``cpu`` and ``disk``, so that the model is really
dispatched over two devices, by the libraries' own code, and must answer as it does undivided.
"""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
import transformers
import yaml
from accelerate.utils import check_device_map

from devplan.core.names import is_inside
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve

STAND_INS = ("cpu", "disk", "disk")
"""What card 0, 1 and 2 of a map become."""

SIZES = dict(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)


def tied_llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SIZES, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)
    )


def experts():
    return transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**SIZES, num_local_experts=4, bos_token_id=1, eos_token_id=2)
    )


def encoder_decoder():
    return transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=512, d_model=64, d_ff=128, num_layers=3, num_heads=4, d_kv=16
        )
    )


def without_no_split_modules():
    return transformers.BioGptForCausalLM(
        transformers.BioGptConfig(
            vocab_size=512,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=4,
            num_attention_heads=4,
        )
    )


def answer(model, ids):
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        return model(input_ids=ids, **more).logits


@pytest.mark.parametrize(
    "make",
    [tied_llama, experts, encoder_decoder, without_no_split_modules],
    ids=lambda f: f.__name__,
)
def test_a_dispatched_model_answers_as_the_whole_one(devplan, here, make):
    torch.manual_seed(0)
    whole = make().eval()
    whole.save_pretrained(here / "tiny", max_shard_size="300KB")
    result = devplan("suggest", "./tiny", "--gpus", "1GiB,512MiB,1GiB", "-o", "map.yaml")
    assert (result.status, result.err) == (0, "")
    device_map = device_map_of(here / "map.yaml")
    assert len(set(device_map.values())) > 1, "nothing is split, nothing is tested"
    stand_ins = {name: STAND_INS[card] for name, card in device_map.items()}
    split = type(whole).from_pretrained(
        here / "tiny", device_map=stand_ins, offload_folder=here / "offload"
    )
    assert split.hf_device_map == stand_ins
    ids = torch.randint(3, 500, (1, 9))
    torch.testing.assert_close(answer(split, ids), answer(whole, ids))


@pytest.mark.parametrize(
    "model",
    [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "OpenGVLab/InternVL3-8B-hf",
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        "google/gemma-3-4b-it",
        "google/gemma-2-27b-it",
        "Qwen/Qwen3-30B-A3B",
        "openai/gpt-oss-20b",
        "google/flan-t5-xxl",
        "openai/whisper-large-v3",
        "tiiuae/falcon-180B",
        "stepfun-ai/GOT-OCR-2.0-hf",
    ],
)
def test_accelerate_accepts_the_map(devplan, here, model):
    result = devplan("suggest", model, "--gpus", "2x80GiB,8x40GiB", "-o", "map.yaml")
    assert (result.status, result.err) == (0, "")
    device_map = device_map_of(here / "map.yaml")
    check_device_map(build_skeleton(resolve(model)).model, device_map)
    # [disjoint] transformers matches entries as prefixes of text; nested ones could be misread.
    assert not [pair for pair in combinations(device_map, 2) if nested(*pair)]


def device_map_of(path):
    """As the line of Python in every report reads it."""
    with open(path) as file:
        return yaml.safe_load(file)["device_map"]


def nested(one: str, other: str) -> bool:
    return is_inside(one, other) or is_inside(other, one)
