"""The hub: real huggingface_hub code against a hub on this machine."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from devplan.core.errors import InputError
from devplan.models.resolution import resolve

from .hub_server import COMMIT, TOKEN, Hub, Repository, start
from .refusal import one_line, refusal


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A running hub, which this process takes for the real one; an empty cache; no token."""
    from huggingface_hub import constants

    hub = Hub()
    server = start(hub)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture
def offline(monkeypatch):
    """A switch that does what HF_HUB_OFFLINE=1 does at the start of a process."""
    from huggingface_hub import constants

    return lambda: monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_whole_checkpoint_equals_the_folder(hub, whole_checkpoint):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    source, local = resolve("acme/llama"), resolve(str(whole_checkpoint))
    assert (source.origin, source.id, source.location) == ("hub", "acme/llama", "acme/llama")
    assert source.revision == COMMIT
    assert source.stored == local.stored and source.config == local.config
    assert source.config_hash == local.config_hash and source.class_name == "LlamaForCausalLM"
    assert source.notes == () and source.code_folder is None


def test_shards_equal_the_folder(hub, sharded_checkpoint):
    hub.repositories["acme/llama"] = Repository(sharded_checkpoint)
    source, local = resolve("acme/llama"), resolve(str(sharded_checkpoint))
    assert source.stored == local.stored
    assert source.stored_metadata == local.stored_metadata


def test_no_weight_data_is_fetched(hub, tmp_path):
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "big"
    folder.mkdir()
    save_file({"weight": torch.zeros(1000, 1000)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"architectures": ["X"]}')
    (folder / "modeling_x.py").write_text("raise SystemExit")
    hub.repositories["acme/big"] = Repository(folder)
    assert resolve("acme/big").stored["weight"].bytes == 4_000_000
    # huggingface_hub asks for the first 100,000 bytes at once, in which most headers end.
    assert hub.served_bytes()["model.safetensors"] <= 100_001
    assert "modeling_x.py" not in hub.served_bytes()


def test_a_header_longer_than_the_first_bytes(hub, tmp_path):
    import torch
    from safetensors.torch import save_file

    names = [f"model.layers.{i}.mlp.experts.{i}.down_proj.weight" for i in range(2000)]
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"architectures": ["X"]}')
    hub.repositories["acme/many"] = Repository(tmp_path)
    assert set(resolve("acme/many").stored) == set(names)


@pytest.mark.parametrize("model, revision", [("acme/llama@v1", None), ("acme/llama", "v1")])
def test_a_revision(hub, whole_checkpoint, model, revision):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    source = resolve(model, revision=revision)
    assert (source.id, source.revision) == ("acme/llama", COMMIT)
    assert ("GET", "/api/models/acme/llama/revision/v1", None, None) in hub.requests


def test_a_revision_means_the_hub_even_for_a_catalogue_name(hub, whole_checkpoint):
    hub.repositories["acme/Tiny-Llama-7B"] = Repository(whole_checkpoint)
    assert resolve("acme/Tiny-Llama-7B").origin == "catalogue"
    assert resolve("acme/Tiny-Llama-7B", revision="v1").origin == "hub"
    assert resolve("acme/Tiny-Llama-7B@v1").origin == "hub"


def test_a_revision_that_is_not_there(hub, whole_checkpoint):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    message = refusal("acme/llama", revision="v9")
    assert "acme/llama has no revision 'v9'" in message and "branch, a tag" in message


def test_a_repository_that_is_not_there(hub):
    message = refusal("acme/Tiny-Lama-7B")
    for fact in (
        "no folder",
        "no name of the catalogue",
        f"{hub.endpoint} has no acme/Tiny-Lama-7B",
        "private",
        "hf auth login",
        "did you mean acme/Tiny-Llama-7B?",
    ):
        assert fact in message


def test_a_gated_repository(hub, whole_checkpoint, monkeypatch):
    hub.repositories["acme/gated"] = Repository(whole_checkpoint, gated=True)
    message = refusal("acme/gated")
    for fact in ("acme/gated is gated", f"{hub.endpoint}/acme/gated", "hf auth login", "HF_TOKEN"):
        assert fact in message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve("acme/gated").stored is not None
    assert hub.requests[-1][3] == f"Bearer {TOKEN}"


def test_a_hub_that_fails(hub):
    hub.broken_status = 503
    message = refusal("acme/llama")
    assert hub.endpoint in message and "503" in message
    hub.broken_status = 403
    assert "403" in refusal("acme/llama") and "token" in refusal("acme/llama")


def test_what_is_no_hub(hub):
    hub.broken_status = 200
    message = refusal("acme/llama")
    assert "does not answer as a hub does" in message and "HF_ENDPOINT" in message


def test_a_hub_that_cannot_be_reached(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # discard: nobody listens
    message = refusal("acme/llama")
    for fact in ("http://127.0.0.1:9 cannot be reached", "network", "local folder"):
        assert fact in message


def test_offline_without_a_cache(hub, offline):
    offline()
    message = refusal("acme/llama")
    for fact in ("HF_HUB_OFFLINE is set", "no snapshot is cached in", "cache"):
        assert fact in message
    assert hub.requests == []


def test_offline_with_the_cache_of_an_earlier_run(hub, offline, whole_checkpoint):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    online = resolve("acme/llama")
    hub.requests.clear()
    offline()
    source = resolve("acme/llama")
    assert hub.requests == []
    assert (source.config, source.revision) == (online.config, COMMIT)
    assert source.stored is None
    (note,) = source.notes
    for fact in (COMMIT[:12], "lacks weights", "HF_HUB_OFFLINE is set"):
        assert fact in note
    assert "unset" not in note


def test_offline_with_some_of_the_shards_in_the_cache(hub, offline, sharded_checkpoint):
    from huggingface_hub import hf_hub_download

    hub.repositories["acme/llama"] = Repository(sharded_checkpoint)
    names = sorted(path.name for path in sharded_checkpoint.iterdir())
    first_shard = next(name for name in names if name.endswith(".safetensors"))
    for name in ("config.json", "model.safetensors.index.json", first_shard):
        hf_hub_download("acme/llama", name)
    offline()
    source = resolve("acme/llama")
    assert source.stored is None and "lacks weights" in source.notes[0]


def test_shards_in_the_cache_are_not_asked_for(hub, offline, sharded_checkpoint):
    from huggingface_hub import hf_hub_download

    hub.repositories["acme/llama"] = Repository(sharded_checkpoint)
    for path in sharded_checkpoint.iterdir():
        hf_hub_download("acme/llama", path.name)
    hub.requests.clear()
    local = resolve(str(sharded_checkpoint))
    assert resolve("acme/llama").stored == local.stored
    assert not [r for r in hub.requests if r[1].endswith(".safetensors")]
    offline()
    source = resolve("acme/llama")
    assert source.stored == local.stored and "HF_HUB_OFFLINE" in source.notes[0]


def test_the_cache_stands_in_for_a_hub_that_fails(hub, whole_checkpoint):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    resolve("acme/llama")
    hub.broken_status = 500
    source = resolve("acme/llama")
    assert source.revision == COMMIT and "status 500" in source.notes[0]


def test_own_code_is_fetched_only_when_it_is_trusted(hub, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    config = {"architectures": ["Own"], "auto_map": {"AutoModel": "modeling_own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling_own.py").write_text("class Own: pass\n")
    hub.repositories["acme/own"] = Repository(folder)
    assert resolve("acme/own").code_folder is None
    assert "modeling_own.py" not in hub.served_bytes()
    source = resolve("acme/own", trust_remote_code=True)
    assert (Path(source.code_folder) / "modeling_own.py").read_text() == "class Own: pass\n"
    assert (Path(source.code_folder) / "config.json").exists()


def test_a_component_in_a_folder_of_the_repository(hub, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    model = diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    pipeline = tmp_path / "pipeline"
    model.save_pretrained(pipeline / "vae")
    index = {"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"]}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    hub.repositories["acme/pipeline"] = Repository(pipeline)
    whole = resolve("acme/pipeline")
    assert (whole.class_name, whole.revision) == ("P", COMMIT)
    assert set(whole.components["vae"].stored) == set(model.state_dict())
    source = resolve("acme/pipeline/vae")
    assert (source.location, source.subfolder) == ("acme/pipeline", "vae")
    assert resolve("acme/pipeline/vae/@main").id == source.id == "acme/pipeline/vae"
    assert (source.library, source.class_name) == ("diffusers", "AutoencoderKL")
    assert source.revision == COMMIT
    assert set(source.stored) == set(model.state_dict())
    assert "no config.json (it holds nothing)" in refusal("acme/pipeline/vea")


def test_a_pipeline_that_the_cache_has_is_there_without_the_hub(hub, tmp_path, offline):
    diffusers = pytest.importorskip("diffusers")
    pipeline = tmp_path / "pipeline"
    diffusers.AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(
        pipeline / "vae"
    )
    index = {"_class_name": "P", "vae": ["diffusers", "AutoencoderKL"]}
    (pipeline / "model_index.json").write_text(json.dumps(index))
    hub.repositories["acme/pipeline"] = Repository(pipeline)
    before = resolve("acme/pipeline")
    offline()
    after = resolve("acme/pipeline")
    assert after.config_hash == before.config_hash
    assert any("cached snapshot" in note for note in after.notes)


def test_repositories_without_a_config(hub, tmp_path):
    adapter, gguf = tmp_path / "adapter", tmp_path / "gguf"
    for folder in (adapter, gguf):
        folder.mkdir()
    (adapter / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    (gguf / "q4.gguf").write_bytes(b"GGUF")
    hub.repositories |= {"acme/adapter": Repository(adapter), "acme/gguf": Repository(gguf)}
    assert "base model instead: acme/base" in refusal("acme/adapter")
    assert "GGUF" in refusal("acme/gguf")


def test_pickles_on_the_hub(hub, whole_checkpoint, tmp_path):
    folder = tmp_path / "pickles"
    folder.mkdir()
    shutil.copy(whole_checkpoint / "config.json", folder)
    (folder / "pytorch_model.bin").write_bytes(b"whatever")
    hub.repositories["acme/pickles"] = Repository(folder)
    source = resolve("acme/pickles")
    assert source.stored is None and "pytorch_model.bin" in source.notes[0]
    assert "pytorch_model.bin" not in hub.served_bytes()


def test_a_broken_config_on_the_hub(hub, tmp_path):
    (tmp_path / "config.json").write_text('{"a": }')
    hub.repositories["acme/broken"] = Repository(tmp_path)
    message = refusal("acme/broken")
    assert "acme/broken: config.json, line 1, column 7" in message


def test_a_file_that_is_no_safetensors(hub, checkpoint):
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 100)
    hub.repositories["acme/broken"] = Repository(checkpoint)
    assert "acme/broken: model.safetensors" in refusal("acme/broken")


def test_a_cache_that_cannot_be_written(hub, whole_checkpoint, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    message = refusal("acme/llama")
    assert "the cache" in message and "HF_HOME" in message


def test_the_environment_is_what_counts(hub, whole_checkpoint, tmp_path):
    """HF_ENDPOINT, HF_HOME and HF_TOKEN in a process of its own, nothing patched."""
    hub.repositories["acme/gated"] = Repository(whole_checkpoint, gated=True)
    code = """
import sys
catalog = sys.modules['devplan.catalog'] = type(sys)('devplan.catalog')
catalog.models = type(sys)('devplan.catalog.models')
catalog.models.find_catalog_model, catalog.models.model_ids = lambda name: None, tuple
from devplan.models import resolve
source = resolve('acme/gated')
print(source.revision, len(source.stored), 'torch' in sys.modules)
"""
    environment = os.environ | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    environment.pop("HF_HUB_CACHE", None)
    run = [sys.executable, "-c", code]
    result = subprocess.run(run, capture_output=True, text=True, env=environment)
    num_tensors = len(resolve(str(whole_checkpoint)).stored)
    assert result.stdout == f"{COMMIT} {num_tensors} False\n", result.stderr
    assert (tmp_path / "home" / "hub" / "models--acme--gated").is_dir()


def test_a_refusal_is_never_hidden_by_the_cache(hub, checkpoint):
    """A broken checkpoint is the user's to know, also when an older snapshot is cached."""
    hub.repositories["acme/llama"] = Repository(checkpoint)
    resolve("acme/llama")
    (checkpoint / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(InputError) as caught:
        resolve("acme/llama")
    assert "not a safetensors file" in one_line(caught.value)


@pytest.mark.parametrize(
    "body",
    ["[]", "null", "5", "{}", '{"id": "acme/x", "siblings": [1, null]}', "[" * 9000 + "]" * 9000],
)
def test_an_answer_that_describes_no_model(hub, whole_checkpoint, body):
    hub.repositories["acme/x"] = Repository(whole_checkpoint)
    hub.raw["/api/models/acme/x"] = {"body": body}
    assert "does not answer as a hub does; check HF_ENDPOINT" in refusal("acme/x")


def test_files_without_a_name_are_passed_over(hub, whole_checkpoint):
    hub.repositories["acme/x"] = Repository(whole_checkpoint)
    files = [{"rfilename": name} for name in ("config.json", None, 5, "model.safetensors")]
    info = {"id": "acme/x", "sha": COMMIT, "siblings": files}
    hub.raw["/api/models/acme/x"] = {"body": json.dumps(info)}
    assert resolve("acme/x").stored == resolve(str(whole_checkpoint)).stored


def test_attempts_of_the_library_are_not_told_one_by_one(
    hub, whole_checkpoint, caplog, monkeypatch
):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    hub.repositories["acme/x"] = Repository(whole_checkpoint)
    hub.raw["/acme/x/resolve/main/config.json"] = {"status": 500, "body": "no"}
    assert "answers acme/x with status 500" in refusal("acme/x")
    attempts = [path for method, path, _, _ in hub.requests if path.endswith("config.json")]
    assert len(attempts) > 1, "it does try again, and would say so"
    assert not caplog.records


def info(**further) -> str:
    return json.dumps({"id": "acme/llama", "sha": COMMIT, "siblings": [], **further})


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "null",
        "5",
        '"text"',
        "",
        "<html>",
        "[" * 5000,
        info(siblings=5),
        info(siblings=[1, None]),
        info(siblings=[{}]),
        info(siblings=[{"rfilename": None}]),
        info(siblings=[{"rfilename": 5}]),
        info(siblings=[{"rfilename": ["config.json"]}]),
        info(siblings={"rfilename": "config.json"}),
        info(id=5, siblings=None),
        info(id=["x"], lastModified="no date"),
        info(createdAt=5, tags=5, config=[], transformers_info=5, safetensors=5),
        '{"id": "' + "9" * 5000 + '"}',
        '{"downloads": ' + "9" * 5000 + "}",
    ],
)
def test_answers_that_no_hub_gives(hub, body):
    hub.raw["/api/models/acme/llama"] = {"body": body}
    refusal("acme/llama")


@pytest.mark.parametrize("commit", ["", "main", "x", "../../x", "0" * 39, "9" * 5000, "a/b"])
def test_a_commit_that_is_none(hub, whole_checkpoint, commit):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    content = (whole_checkpoint / "config.json").read_text()
    headers = {"X-Repo-Commit": commit, "ETag": '"0123"'}
    hub.raw["/acme/llama/resolve/main/config.json"] = {"headers": headers, "body": content}
    refusal("acme/llama")


def test_a_cache_whose_files_are_gone(hub, whole_checkpoint, offline, tmp_path):
    hub.repositories["acme/llama"] = Repository(whole_checkpoint)
    resolve("acme/llama")
    shutil.rmtree(next((tmp_path / "cache").rglob("blobs")))
    offline()
    assert "no snapshot is cached" in refusal("acme/llama")
