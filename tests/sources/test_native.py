"""Whether the installed libraries have the class of a config."""

from __future__ import annotations

import pytest
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from devplan.core.errors import InputError
from devplan.models.config import library_and_class
from devplan.models.native import native_class, remote_class_reference, require_native
from devplan.models.source import ModelSource

from .refusal import one_line


def source(**config) -> ModelSource:
    library, class_name = library_and_class(config, "config.json")
    return ModelSource(
        id="acme/x",
        origin="folder",
        location="x",
        library=library,
        class_name=class_name,
        config=config,
    )


def refused(source: ModelSource) -> str:
    assert native_class(source) is None
    with pytest.raises(InputError) as caught:
        require_native(source)
    return one_line(caught.value)


def test_the_class_that_architectures_names():
    found = require_native(source(architectures=["LlamaForCausalLM"], model_type="llama"))
    assert found is transformers.LlamaForCausalLM


def test_the_class_wins_over_an_unknown_model_type():
    """Kimi-K2: ``kimi_k2`` is not a model type of transformers, and DeepseekV3ForCausalLM "
    "is there."""
    assert "kimi_k2" not in CONFIG_MAPPING_NAMES
    own_code = {"AutoModelForCausalLM": "modeling_deepseek.DeepseekV3ForCausalLM"}
    kimi = source(architectures=["DeepseekV3ForCausalLM"], model_type="kimi_k2", auto_map=own_code)
    assert require_native(kimi) is transformers.DeepseekV3ForCausalLM


@pytest.mark.parametrize(
    "model_type, name",
    [
        ("llama", "LlamaForCausalLM"),
        ("t5", "T5ForConditionalGeneration"),
        ("whisper", "WhisperForConditionalGeneration"),
        ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
        ("vit", "ViTModel"),
    ],
)
def test_a_model_type_stands_for_its_whole_model(model_type, name):
    assert require_native(source(model_type=model_type)).__name__ == name


def test_an_unknown_model_type():
    message = refused(source(model_type="lama3", architectures=["Lama3ForCausalLM"]))
    for fact in (
        "acme/x",
        "'lama3'",
        "Lama3ForCausalLM",
        f"{len(CONFIG_MAPPING_NAMES)} of transformers {transformers.__version__}",
        "upgrade transformers",
        "--trust-remote-code",
        "did you mean llama",
    ):
        assert fact in message


def test_an_unknown_class_of_a_known_model_type():
    message = refused(source(model_type="llama", architectures=["LlamaForCausalLMs"]))
    assert "LlamaForCausalLMs" in message and "did you mean LlamaForCausalLM" in message


@pytest.mark.parametrize("name", ["AutoModel", "Trainer", "LlamaConfig", "__version__", "models"])
def test_not_everything_in_transformers_is_a_model(name):
    assert native_class(source(architectures=[name], model_type="llama")) is None


def test_a_model_that_brings_its_own_code():
    auto_map = {
        "AutoConfig": "configuration_minicpm.MiniCPMVConfig",
        "AutoModel": "modeling_minicpmv.MiniCPMV",
    }
    own = source(architectures=["MiniCPMV"], model_type="minicpmv", auto_map=auto_map)
    message = refused(own)
    for fact in ("MiniCPMV", transformers.__version__, "own code", "--trust-remote-code"):
        assert fact in message
    assert remote_class_reference(own) == "modeling_minicpmv.MiniCPMV"


def test_the_entry_of_auto_map_that_names_the_class():
    auto_map = {
        "AutoConfig": "c.Config",
        "AutoModel": "m.Base",
        "AutoModelForCausalLM": "m.WithHead",
        "AutoModelForSequenceClassification": "m.Classifier",
    }
    for architecture, expected in (
        ("Classifier", "m.Classifier"),
        ("Base", "m.Base"),
        ("Unnamed", "m.WithHead"),
    ):
        own = source(architectures=[architecture], auto_map=auto_map)
        assert remote_class_reference(own) == expected
    only_config = source(architectures=["X"], auto_map={"AutoConfig": "c.Config"})
    assert remote_class_reference(only_config) is None
    assert remote_class_reference(source(architectures=["X"])) is None


def test_diffusers():
    diffusers = pytest.importorskip("diffusers")
    assert require_native(source(_class_name="AutoencoderKL")) is diffusers.AutoencoderKL
    message = refused(source(_class_name="AutoencoderKLL"))
    assert "diffusers" in message and "did you mean AutoencoderKL" in message


def test_a_model_known_by_its_tensors_only():
    tensors = ModelSource(id="acme/x", origin="catalogue", location="acme/x", library="tensors")
    assert "tensors only" in refused(tensors)
