"""Models whose code comes with them: planned without it, proven with it.

The checkpoint is that of a model type that no release of transformers has, with real code beside
it; what is tried here is the same for a folder and for the hub.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from devplan.core.errors import InputError, UserCodeError
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from tests.sources.hub_server import Hub, Repository, start

CHECKPOINT = Path(__file__).parents[1] / "own_code" / "checkpoint"
CARDS = ("--gpus", "512MiB,256MiB", "-o", "map.yaml", "--force")
TRUST = "--trust-remote-code"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, modules_cache):
    """The checkpoint: configuration, code, and weights as ``save_pretrained`` writes them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("own") / "reader"
    shutil.copytree(CHECKPOINT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForCausalLM.from_config(config, trust_remote_code=True).eval()
    model.to(torch.float32).save_pretrained(folder, max_shard_size="400KB")
    shutil.copytree(CHECKPOINT, folder, dirs_exist_ok=True)
    return folder, model


@pytest.fixture
def folder(whole, here):
    """A copy in the current folder, under a name of its own, so that no code is met twice."""
    copy = here / f"reader_{here.name}"
    shutil.copytree(whole[0], copy)
    return f"./{copy.name}"


def edit_config(folder: str, **changes) -> None:
    path = Path(folder) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def verification(path: str = "map.yaml") -> dict:
    return yaml.safe_load(Path(path).read_text())["verification"]


# --------------------------------------------------------------------------- without the code


def test_without_the_code_it_is_planned_from_its_tensors(devplan, folder):
    answer = devplan("suggest", folder, *CARDS)
    assert (answer.status, answer.err) == (0, "")
    said = " ".join(answer.out.split())
    assert "planned from the names and shapes of the tensors, nothing was run (DP901)" in said
    assert "the model brings its own code" in said
    assert "backbone.words: the input ids enter here" in said
    assert verification()["status"] == "unverified"
    device_map = yaml.safe_load(Path("map.yaml").read_text())["device_map"]
    layers = [f"backbone.layers.{number}" for number in range(12)]
    assert set(layers) <= device_map.keys()
    cards = [device_map[layer] for layer in layers]
    assert cards == sorted(cards) and set(cards) == {0, 1}


def test_sizes_are_those_of_the_checkpoint(folder):
    skeleton = build_skeleton(resolve(folder))
    stored = resolve(folder).stored
    assert {n: tuple(p.shape) for n, p in skeleton.model.named_parameters()} == {
        name: tensor.shape for name, tensor in stored.items()
    }
    assert not skeleton.executable and skeleton.max_tokens == 512
    assert {p.dtype for p in skeleton.model.parameters()} == {torch.bfloat16}


def test_no_code_runs_that_was_not_trusted(devplan, folder, here):
    for file in Path(folder).glob("*.py"):
        file.write_text(f"open({str(here / 'ran')!r}, 'w')\n" + file.read_text())
    assert devplan("suggest", folder, *CARDS).status == 0
    assert devplan("check", "map.yaml").status == 0
    assert not (here / "ran").exists()
    assert devplan("suggest", folder, *CARDS, TRUST).status == 0
    assert (here / "ran").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        {"quant_method": "gptq", "bits": 4, "group_size": 32},
        {"quant_method": "of-my-own"},
    ],
    ids=lambda config: config["quant_method"],
)
def test_packed_weights_count_as_they_are_stored(devplan, folder, config):
    from safetensors.torch import load_file, save_file

    for shard in Path(folder).glob("*.safetensors"):
        tensors = load_file(shard)
        for name in [name for name in tensors if name.endswith("up.weight")]:
            tensors[name] = tensors[name].to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.ones(1, 1)
        save_file(tensors, shard)
    edit_config(folder, quantization_config=config)
    expected = sum(tensor.bytes for tensor in resolve(folder).stored.values())
    answer = devplan("suggest", folder, *CARDS)
    assert (answer.status, answer.err) == (0, "")
    cards = yaml.safe_load(Path("map.yaml").read_text())["prediction"].values()
    assert sum(card["weights_bytes"] for card in cards) == expected
    assert devplan("check", "map.yaml").status == 0


def test_a_class_that_nobody_has_is_planned_from_its_tensors_too(devplan, folder):
    """As Spark-Formalizer is: a type and a class without code, and safetensors files."""
    config = {"architectures": ["SparkModel"], "model_type": "spark", "vocab_size": 512}
    (Path(folder) / "config.json").write_text(json.dumps(config))
    for trust in ((), (TRUST,)):
        answer = devplan("suggest", folder, *CARDS, *trust)
        assert (answer.status, answer.err) == (0, "")
        said = " ".join(answer.out.split())
        assert "'spark'" in said and "nothing was run (DP901)" in said
        assert verification()["status"] == "unverified"


def test_without_code_and_without_weights_the_line_says_what_is_missing(refused, folder):
    for shard in Path(folder).glob("*.safetensors*"):
        shard.unlink()
    line = refused("suggest", folder, *CARDS)
    assert "ReaderForCausalLM" in line and "--trust-remote-code" in line


# ------------------------------------------------------------------------------ with the code


def test_with_the_code_it_is_proven(devplan, folder):
    answer = devplan("suggest", folder, *CARDS, TRUST)
    assert (answer.status, answer.err) == (0, "")
    assert verification()["status"] == "clean"
    checked = devplan("check", "map.yaml", TRUST)
    assert checked.status == 0
    assert "clean" in checked.out and "prefill, decode 1, decode 2" in checked.out


def test_first_without_then_with_the_code(devplan, folder):
    """What the tensors could not show is found when the code is there, and repaired by it."""
    devplan("suggest", folder, *CARDS)
    said = devplan("check", "map.yaml").out
    assert "warning DP901" in said and "nothing was run" in said
    with_code = devplan("check", "map.yaml", TRUST)
    assert "DP001" in with_code.out and "backbone.rotary: 0" in with_code.out
    devplan("suggest", folder, *CARDS, TRUST)
    assert "backbone.rotary" in Path("map.yaml").read_text()
    assert devplan("check", "map.yaml", TRUST, "--strict").status == 0
    # The other way round: without the code nobody knows whether there is such a module.
    without = devplan("check", "map.yaml")
    assert without.status == 0 and "stores nothing of 'backbone.rotary'" in without.out


def test_a_bug_of_the_code_is_found_only_with_it(devplan, folder):
    code = Path(folder) / "modeling_reader.py"
    broken = "states = self.norm(states) + self.words(input_ids)\n        return states"
    code.write_text(code.read_text().replace("return self.norm(states)", broken))
    Path("map.yaml").write_text(
        "backbone.words: 0\nbackbone.rotary: 0\nbackbone.layers: 1\nbackbone.norm: 1\nspeak: 1\n"
    )
    arguments = ("check", "map.yaml", "--model", folder, "--gpus", "512MiB,256MiB")
    assert devplan(*arguments).status == 0
    found = devplan(*arguments, TRUST)
    assert found.status == 1
    assert "DP301" in found.out and "modeling_reader.py" in found.out


def test_the_map_loads_the_checkpoint(devplan, folder, whole, here):
    """Cards become cpu and disk; the split model answers as the whole one."""
    from transformers import AutoModelForCausalLM

    devplan("suggest", folder, *CARDS, TRUST)
    device_map = yaml.safe_load(Path("map.yaml").read_text())["device_map"]
    split = AutoModelForCausalLM.from_pretrained(
        folder,
        trust_remote_code=True,
        dtype=torch.float32,
        device_map={name: ("cpu", "disk")[card] for name, card in device_map.items()},
        offload_folder=here / "offload",
    )
    ids = torch.randint(3, 500, (1, 9))
    with torch.no_grad():
        torch.testing.assert_close(split(ids).logits, whole[1](ids).logits)


def test_code_that_lacks_a_package_or_raises(folder):
    code = Path(folder) / "modeling_reader.py"
    good = code.read_text()
    code.write_text("import a_package_that_nobody_has\n" + good)
    with pytest.raises(InputError, match="a_package_that_nobody_has"):
        build_skeleton(resolve(folder, trust_remote_code=True))
    code.write_text(good + "\nraise RuntimeError('not today')\n")
    with pytest.raises(UserCodeError, match="not today"):
        build_skeleton(resolve(folder, trust_remote_code=True))


# ------------------------------------------------------------------------------------- the hub


@pytest.fixture
def hub(here, monkeypatch):
    """A running hub that this process takes for the real one; an empty cache."""
    from huggingface_hub import constants

    hub = Hub()
    server = start(hub)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(here / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    yield hub
    server.shutdown()
    server.server_close()


def test_a_hub_id_without_and_with_its_code(devplan, hub, whole):
    hub.repositories["acme/reader"] = Repository(whole[0])
    assert devplan("suggest", "acme/reader", *CARDS).status == 0
    assert verification()["status"] == "unverified"
    assert not [path for path in hub.served_bytes() if path.endswith(".py")]
    assert devplan("suggest", "acme/reader", *CARDS, TRUST).status == 0
    assert verification()["status"] == "clean"
    assert devplan("check", "map.yaml", TRUST, "--strict").status == 0
    weights = sum(n for path, n in hub.served_bytes().items() if path.endswith(".safetensors"))
    assert weights < sum(file.stat().st_size for file in whole[0].glob("*.safetensors"))


@pytest.mark.parametrize("name", ["MiniCPM-V-4_5", "Spark-Formalizer-7B"])
def test_a_catalogue_name_with_trust_asks_the_hub_for_its_code(devplan, hub, whole, name):
    """Any code will do here: what is tried is that it is fetched, built and run."""
    from devplan.catalog.models import find_catalog_model

    hub.repositories[find_catalog_model(name).id] = Repository(whole[0])
    answer = devplan("suggest", name, *CARDS, TRUST)
    assert (answer.status, answer.err) == (0, "")
    assert "ReaderForCausalLM" in answer.out and verification()["status"] == "clean"


def test_a_catalogue_name_whose_code_cannot_be_had(devplan, refused, hub):
    answer = devplan("suggest", "MiniCPM-V-4_5", "--gpus", "24GiB,12GiB", "-o", "map.yaml", TRUST)
    assert answer.status == 0
    assert "its own code cannot be had" in answer.out and verification()["status"] == "unverified"
    assert "none of its layers" in refused("suggest", "Spark-Formalizer-7B", *CARDS, TRUST)
