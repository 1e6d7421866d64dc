"""A model's folder is data: code in it does not run, and nobody is asked whether it should."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import pytest

import devplan as api
from devplan.core.errors import InputError
from devplan.models.build import build_skeleton
from devplan.models.config import without_code
from devplan.models.quiet import never_asked
from devplan.models.resolution import resolve

CARDS = ("--gpus", "1GiB,1GiB")
CPU = {"cuda:0": "cpu", "cuda:1": "cpu"}

AUTO_CLASSES = {
    "AutoConfig": "evil.Evil",
    "AutoModel": "evil.Evil",
    "AutoModelForCausalLM": "evil.Evil",
    "AutoProcessor": "evil.Evil",
    "AutoTokenizer": ["evil.Evil", "evil.Evil"],
    "AutoImageProcessor": "evil.Evil",
    "AutoFeatureExtractor": "evil.Evil",
    "AutoVideoProcessor": "evil.Evil",
}

TINY_WHISPER = {
    "architectures": ["WhisperForConditionalGeneration"],
    "model_type": "whisper",
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "vocab_size": 64,
    "pad_token_id": 1,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
PLANTED = {
    "processor": {"processor_config.json": {"processor_class": "Evil", "auto_map": AUTO_CLASSES}},
    "tokenizer": {"tokenizer_config.json": {"tokenizer_class": "Evil", "auto_map": AUTO_CLASSES}},
    "tokenizer, listed": {
        "tokenizer_config.json": {"tokenizer_class": "Evil", "auto_map": ["evil.Evil", None]}
    },
    "image processor": {
        "preprocessor_config.json": {"image_processor_type": "Evil", "auto_map": AUTO_CLASSES}
    },
    "feature extractor": {
        "preprocessor_config.json": {"feature_extractor_type": "Evil", "auto_map": AUTO_CLASSES}
    },
    "video processor": {
        "video_preprocessor_config.json": {
            "video_processor_type": "Evil",
            "auto_map": AUTO_CLASSES,
        },
        "preprocessor_config.json": {"auto_map": AUTO_CLASSES},
    },
    "parts of a processor": {
        "processor_config.json": {"processor_class": "Qwen2VLProcessor"},
        "preprocessor_config.json": {"image_processor_type": "Evil", "auto_map": AUTO_CLASSES},
        "tokenizer_config.json": {"tokenizer_class": "Evil", "auto_map": AUTO_CLASSES},
        "video_preprocessor_config.json": {"auto_map": AUTO_CLASSES},
    },
    "nested parts": {
        "processor_config.json": {
            "processor_class": "LlavaProcessor",
            "image_processor": {"image_processor_type": "Evil", "auto_map": AUTO_CLASSES},
            "tokenizer": {"auto_map": AUTO_CLASSES},
        },
    },
    "of a repository": {
        "tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["org/evil--evil.Evil", None]}}
    },
    "configuration": {"config.json": {"auto_map": AUTO_CLASSES}},
    "generation": {
        "generation_config.json": {"custom_generate": ".", "auto_map": AUTO_CLASSES},
    },
    "chat template": {
        "tokenizer_config.json": {
            "tokenizer_class": "ByT5Tokenizer",
            "chat_template": "{{ ''.__class__.__mro__[1].__subclasses__() }}"
            "{{ cycler.__init__.__globals__.os.system('true') }}",
        }
    },
}


@pytest.fixture
def asked(monkeypatch):
    """Questions that were put to whoever sits at stdin, and answered with yes."""
    questions = []

    def answer(question: object = "") -> str:
        questions.append(question)
        return "y"

    monkeypatch.setattr(builtins, "input", answer)
    return questions


@pytest.fixture
def folder(here, checkpoint, canary) -> Path:
    """A checkpoint with code wherever libraries look for some."""
    copy = here / "model"
    shutil.copytree(checkpoint, copy)
    for name in ("evil.py", "modeling_evil.py", "generate.py", "transformers.py", "torch.py"):
        (copy / name).write_text(canary.code() + "class Evil: pass\n")
    (copy / "custom_generate").mkdir()
    (copy / "custom_generate/generate.py").write_text(canary.code() + "def generate(): pass\n")
    return copy


def plant(folder: Path, files: dict) -> None:
    for name, content in files.items():
        path = folder / name
        known = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**known, **content}))


@pytest.mark.parametrize("what", PLANTED)
def test_code_of_the_folder_does_not_run_and_nobody_is_asked(devplan, folder, canary, asked, what):
    plant(folder, PLANTED[what])
    (folder.parent / "m.yaml").write_text("model: 0\nlm_head: 0\n")
    suggested = devplan("suggest", folder, *CARDS, "-o", "-")
    checked = devplan("check", "m.yaml", "--model", folder, *CARDS, "--format", "json")
    assert (asked, canary.has_sung) == ([], False)
    assert (suggested.status, checked.status) == (0, 0), (suggested.err, checked.err)
    assert json.loads(checked.out)


@pytest.mark.parametrize("what", PLANTED)
def test_nor_when_it_is_loaded(folder, canary, asked, here, devplan, what):
    assert devplan("suggest", folder, *CARDS, "-o", "map.yaml").status == 0
    plant(folder, PLANTED[what])
    api.load(map="map.yaml", devices=CPU, on_difference="warn")
    assert (asked, canary.has_sung) == ([], False)


@pytest.mark.parametrize("auto_map", [AUTO_CLASSES, {"AutoFeatureExtractor": "evil.Evil"}])
def test_nor_for_parts_of_a_processor_that_the_library_chooses(
    devplan, folder, canary, asked, here, auto_map
):
    """transformers takes the processor of the model type, and forgets that nothing is trusted."""
    (folder / "config.json").write_text(json.dumps(TINY_WHISPER))
    plant(folder, {"preprocessor_config.json": {"auto_map": auto_map}})
    (folder / "model.safetensors.index.json").unlink()
    for path in folder.glob("*.safetensors"):
        path.unlink()
    (here / "m.yaml").write_text("'': 0\n")
    answer = devplan("check", "m.yaml", "--model", folder, *CARDS, "--format", "json")
    assert (asked, canary.has_sung) == ([], False)
    assert (answer.status in (0, 1), answer.err) == (True, "")
    assert json.loads(answer.out)["maps"]


def test_trust_is_typed_and_set_in_no_file(devplan, folder, canary, here):
    plant(folder, PLANTED["configuration"])
    (here / "m.yaml").write_text(
        f"model: {folder}\ntrust_remote_code: true\ndevice_map:\n  model: 0\n  lm_head: 0\n"
    )
    assert devplan("check", "m.yaml", *CARDS).status == 0
    for key in ("trust-remote-code", "trust_remote_code"):
        (here / "devplan.yaml").write_text(f"{key}: true\n")
        assert devplan("suggest", folder, *CARDS).status == 2
    assert not canary.has_sung


def test_an_attention_of_a_repository_is_not_fetched(devplan, folder):
    for key in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        plant(folder, {"config.json": {key: "org/kernel"}})
    assert devplan("suggest", folder, *CARDS, "-o", "map.yaml").status == 0
    with pytest.raises(InputError, match=r"attn_implementation: 'org/kernel', which is code"):
        api.load(map="map.yaml", devices=CPU)


def test_what_names_code_is_taken_out_at_any_depth():
    inner = {"auto_map": {"AutoModel": "x.Y"}, "attn_implementation": {"": "org/x"}, "kept": 1}
    config = {"text_config": inner, "towers": [inner], "attn_implementation": "sdpa"}
    left = {"text_config": {"kept": 1}, "towers": [{"kept": 1}], "attn_implementation": "sdpa"}
    assert without_code(config) == left


def test_parts_with_code_of_their_own_are_built_of_the_library(folder, canary, asked, checkpoint):
    inner = json.loads((checkpoint / "config.json").read_text())
    whole = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {**inner, "auto_map": AUTO_CLASSES},
        "vision_config": {"model_type": "clip_vision_model", "auto_map": AUTO_CLASSES},
    }
    for path in folder.glob("*.safetensors*"):
        path.unlink()
    (folder / "config.json").write_text(json.dumps(whole))
    build_skeleton(resolve(str(folder)))
    assert (asked, canary.has_sung) == ([], False)


def test_the_waiting_time_is_what_it_was():
    from transformers import dynamic_module_utils as utils

    before = utils.TIME_OUT_REMOTE_CODE
    with never_asked(), pytest.raises(ZeroDivisionError), never_asked():
        assert utils.TIME_OUT_REMOTE_CODE == 0
        raise ZeroDivisionError
    assert before == utils.TIME_OUT_REMOTE_CODE


def test_releases_that_ask_nothing_have_no_waiting_time(monkeypatch):
    """transformers 4.28 and 4.29."""
    from transformers import dynamic_module_utils

    monkeypatch.delattr(dynamic_module_utils, "TIME_OUT_REMOTE_CODE")
    with never_asked():
        assert dynamic_module_utils.TIME_OUT_REMOTE_CODE == 0
