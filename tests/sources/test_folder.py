"""Local folders: headers against the tensors themselves, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devplan.models.resolution import resolve

from .refusal import refusal


def expected_tensors(model) -> dict[str, tuple[tuple[int, ...], int]]:
    return {
        name: (tuple(tensor.shape), tensor.numel() * tensor.element_size())
        for name, tensor in model.state_dict().items()
    }


def found_tensors(source) -> dict[str, tuple[tuple[int, ...], int]]:
    return {name: (tensor.shape, tensor.bytes) for name, tensor in source.stored.items()}


def edit_config(folder: Path, **changes) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_a_whole_checkpoint(whole_checkpoint, tiny_llama):
    source = resolve(str(whole_checkpoint))
    assert (source.origin, source.library) == ("folder", "transformers")
    assert (source.class_name, source.dtype) == ("LlamaForCausalLM", "bfloat16")
    assert source.id == source.location == str(whole_checkpoint)
    assert source.config["num_hidden_layers"] == 4
    assert found_tensors(source) == expected_tensors(tiny_llama)
    assert {tensor.dtype for tensor in source.stored.values()} == {"BF16"}
    assert source.notes == () and source.revision is None and source.code_folder is None


def test_shards_hold_the_same(sharded_checkpoint, tiny_llama):
    assert len(list(sharded_checkpoint.glob("*.safetensors"))) > 2
    source = resolve(str(sharded_checkpoint))
    assert found_tensors(source) == expected_tensors(tiny_llama)
    total = sum(tensor.bytes for tensor in source.stored.values())
    assert source.stored_metadata["total_size"] == total


def test_a_folder_is_found_from_where_one_stands(whole_checkpoint, monkeypatch):
    monkeypatch.chdir(whole_checkpoint.parent)
    for text in ("whole", "./whole", "whole/"):
        source = resolve(text)
        assert (source.id, source.origin) == (text, "folder")
    monkeypatch.setenv("HOME", str(whole_checkpoint.parent))
    source = resolve("~/whole")
    assert source.id == "~/whole" and source.location == str(whole_checkpoint)


def test_a_folder_wins_over_catalogue_and_hub(whole_checkpoint, tmp_path, monkeypatch):
    from .conftest import copy

    copy(whole_checkpoint, tmp_path / "acme").rename(tmp_path / "acme" / "Tiny-Llama-7B")
    monkeypatch.chdir(tmp_path)
    assert resolve("acme/Tiny-Llama-7B").origin == "folder"


def test_other_dtypes(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {
        "packed": torch.zeros(8, 16, dtype=torch.uint8),
        "fp8": torch.zeros(4, 4, dtype=torch.float8_e4m3fn),
        "codes": torch.zeros(3, 5, dtype=torch.int32),
        "scale": torch.zeros((), dtype=torch.float32),
        "none": torch.zeros(0, 5, dtype=torch.float64),
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architectures": ["X"]}')
    stored = resolve(str(tmp_path)).stored
    assert {name: (t.dtype, t.shape, t.bytes) for name, t in stored.items()} == {
        "packed": ("U8", (8, 16), 128),
        "fp8": ("F8_E4M3", (4, 4), 16),
        "codes": ("I32", (3, 5), 60),
        "scale": ("F32", (), 4),
        "none": ("F64", (0, 5), 0),
    }


def test_config_alone_is_enough(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    source = resolve(str(checkpoint))
    assert source.stored is None and source.notes == ()


def test_pickles_are_never_opened(checkpoint):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(b"whatever")
    source = resolve(str(checkpoint))
    assert source.stored is None
    assert "pytorch_model.bin" in source.notes[0] and "never opens" in source.notes[0]


def test_safetensors_of_another_name_are_not_the_model(checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "consolidated.safetensors")
    source = resolve(str(checkpoint))
    assert source.stored is None and "consolidated.safetensors" in source.notes[0]


def test_an_index_without_any_shard_counts_as_config_alone(shards):
    total = json.loads((shards / "model.safetensors.index.json").read_text())["metadata"]
    for shard in shards.glob("*.safetensors"):
        shard.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    source = resolve(str(shards))
    assert source.stored is None and "no weights" in source.notes[0]
    assert source.stored_metadata == total


def test_a_missing_shard(shards):
    names = sorted(path.name for path in shards.glob("*.safetensors"))
    (shards / names[1]).unlink()
    message = refusal(shards)
    for fact in (names[1], str(shards), f"1 of the {len(names)} shards", "download"):
        assert fact in message


@pytest.mark.parametrize("num_bytes", [0, 5, 300, -10])
def test_a_truncated_shard(shards, num_bytes):
    path = sorted(shards.glob("*.safetensors"))[2]
    path.write_bytes(path.read_bytes()[:num_bytes])
    message = refusal(shards)
    for fact in (str(path), f"({path.stat().st_size} bytes)", "truncated", "download it again"):
        assert fact in message


@pytest.mark.parametrize(
    "text", ["{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": null}']
)
def test_an_index_without_weight_map(shards, text):
    (shards / "model.safetensors.index.json").write_text(text)
    assert "weight_map" in refusal(shards)


BAD_CONFIGS = {
    "broken": ('{"a": 1,\n "b": }', ["line 2, column 7", "broken JSON"]),
    "empty": ("", ["line 1, column 1", "broken JSON"]),
    "list": ("[1]", ["a list", "object"]),
    "string": ('"x"', ["a string", "object"]),
    "null": ("null", ["null", "object"]),
    "number": ("5", ["5", "object"]),
    "no class": ('{"hidden_size": 5}', ["architectures", "model_type", "llama"]),
    "class as text": ('{"architectures": "LlamaForCausalLM"}', ["list", "LlamaForCausalLM"]),
    "class as number": ('{"architectures": [1]}', ["[1]", "list"]),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_config(tmp_path, case):
    text, facts = BAD_CONFIGS[case]
    (tmp_path / "config.json").write_text(text)
    message = refusal(tmp_path)
    for fact in (str(tmp_path / "config.json"), *facts):
        assert fact in message


def test_a_config_that_is_no_text(tmp_path):
    (tmp_path / "config.json").write_bytes(b'{"a": "\xff"}')
    assert "not UTF-8" in refusal(tmp_path)


def test_a_config_that_is_a_folder(tmp_path):
    (tmp_path / "config.json").mkdir()
    assert "cannot read" in refusal(tmp_path)


def test_a_model_type_alone_names_no_class(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    assert resolve(str(tmp_path)).class_name is None


def test_a_folder_without_config(tmp_path):
    (tmp_path / "README.md").write_text("x")
    message = refusal(tmp_path)
    for fact in (str(tmp_path), "no config.json", "README.md", "save_pretrained"):
        assert fact in message


def test_an_empty_folder(tmp_path):
    assert "holds nothing" in refusal(tmp_path)


def test_the_config_lies_one_folder_below(whole_checkpoint, tmp_path):
    from .conftest import copy

    copy(whole_checkpoint, tmp_path).rename(tmp_path / "checkpoint-500")
    assert f"give {tmp_path}/checkpoint-500" in refusal(tmp_path)


def test_an_adapter_names_its_base(tmp_path):
    content = {"base_model_name_or_path": "acme/Base-7B", "peft_type": "LORA"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(content))
    message = refusal(tmp_path)
    assert "adapter" in message and "acme/Base-7B" in message


def test_gguf_only(tmp_path):
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    message = refusal(tmp_path)
    assert "GGUF" in message and "model-Q4_K_M.gguf" in message and "config.json" in message


def test_a_pipeline_names_its_parts(tmp_path):
    index = {
        "_class_name": "FluxPipeline",
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "image_encoder": [None, None],
    }
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    source = resolve(str(tmp_path))
    assert source.class_name == "FluxPipeline"
    assert list(source.components) == ["transformer", "vae"]
    assert source.components["vae"].class_name == "AutoencoderKL"


def test_a_diffusers_component(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.AutoencoderKL(
        block_out_channels=(8,), norm_num_groups=4, layers_per_block=1, latent_channels=2
    )
    model.save_pretrained(tmp_path / "vae")
    source = resolve(str(tmp_path / "vae"))
    assert (source.library, source.class_name) == ("diffusers", "AutoencoderKL")
    assert found_tensors(source) == expected_tensors(model)


def test_a_path_that_is_not_there(whole_checkpoint, monkeypatch):
    message = refusal(whole_checkpoint.parent / "whale")
    assert "no folder" in message and "did you mean whole?" in message
    message = refusal(whole_checkpoint / "x" / "y")
    assert f"{whole_checkpoint / 'x'} does not exist" in message
    monkeypatch.chdir(whole_checkpoint.parent)
    assert "did you mean whole?" in refusal("./whale")


def test_a_file_is_no_folder(whole_checkpoint):
    assert "is a file" in refusal(whole_checkpoint / "config.json")


def test_a_revision_is_for_the_hub(whole_checkpoint):
    message = refusal(whole_checkpoint, revision="main")
    assert "'main'" in message and "hub id" in message


def test_own_code_is_only_named_when_it_is_trusted(checkpoint):
    edit_config(checkpoint, auto_map={"AutoModelForCausalLM": "modeling_x.XForCausalLM"})
    assert resolve(str(checkpoint)).code_folder is None
    trusted = resolve(str(checkpoint), trust_remote_code=True)
    assert trusted.code_folder == str(checkpoint) and trusted.trust_remote_code
