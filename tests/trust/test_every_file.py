"""Whatever a file says, nothing of the folder is imported, called or asked about.

Each example takes one file that devplan reads, valid as it is, puts the name of a canary where the
file has text, and runs every command that reads the file.
"""

from __future__ import annotations

import builtins
import copy
import importlib.metadata
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trust.conftest import Canary

CARDS = ("--gpus", "1GiB,1GiB")
LOG = """\
Traceback (most recent call last):
  File "CANARY/code.py", line 3, in forward
    return self.second(x)
  File "/usr/lib/python3/site-packages/transformers/models/llama/modeling_llama.py", line 3, in f
    x
RuntimeError: Expected all tensors to be on the same device, but found cuda:0 and cuda:1! (CANARY)
"""
SETTINGS = {
    "model": "./model",
    "gpus": ["1GiB", "1GiB"],
    "dtype": "float32",
    "kv-dtype": "float32",
    "main": "0",
    "reserve": "1MiB",
    "image-size": "8x8",
    "objective": "balance",
    "pin": {"model.norm": "cuda:0"},
    "ignore": {"DP203": "why"},
    "offload": ["cpu"],
    "output": "made.yaml",
}
OF_A_MAP = (
    ("check", "map.yaml"),
    ("graph", "map.yaml"),
    ("diff", "map.yaml", "map.yaml"),
    ("doctor", "map.yaml"),
    ("lock", "map.yaml"),
    ("explain", "log.txt", "--map", "map.yaml"),
)
OF_A_FOLDER = (
    ("suggest", "./model", *CARDS, "-o", "-", "--no-verify"),
    ("check", "plain.yaml"),
)
FEW = ("configuration", "generation", "tokenizer", "processor")
"""Kinds whose every example is a run of the model."""

FILES: dict[str, tuple[str, tuple[tuple[str, ...], ...]]] = {
    "full map": ("map.yaml", OF_A_MAP),
    "bare map": ("plain.yaml", (("check", "plain.yaml", "--model", "./model", *CARDS),)),
    "wrapped map": ("wrapped.json", (("check", "wrapped.json"), ("graph", "wrapped.json"))),
    "settings": ("devplan.yaml", (("suggest",), ("check", "plain.yaml"), ("fit", "--no-verify"))),
    "baseline": ("baseline.json", (("check", "map.yaml", "--baseline", "baseline.json"),)),
    "pasted text": ("log.txt", (("explain", "log.txt", "--map", "map.yaml"),)),
    "configuration": ("model/config.json", OF_A_FOLDER),
    "generation": ("model/generation_config.json", OF_A_FOLDER),
    "index": ("model/model.safetensors.index.json", OF_A_FOLDER),
    "tokenizer": ("model/tokenizer_config.json", OF_A_FOLDER),
    "processor": ("model/preprocessor_config.json", OF_A_FOLDER),
    "pipeline": ("pipeline/model_index.json", (("suggest", "./pipeline", *CARDS, "-o", "-"),)),
    "scheduler": (
        "pipeline/scheduler/scheduler_config.json",
        (("suggest", "./pipeline", *CARDS, "-o", "-"),),
    ),
}
ADDED = ("auto_map", "custom_pipeline", "custom_generate", "trust_remote_code", "model", "inputs")


@pytest.fixture
def project(devplan, here, checkpoint, canary) -> Path:
    """Every file that devplan reads, each as it should be, and the canary beside them."""
    shutil.copytree(checkpoint, here / "model")
    (here / "model/tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    (here / "model/preprocessor_config.json").write_text('{"image_processor_type": "X"}')
    (here / "pipeline/scheduler").mkdir(parents=True)
    (here / "pipeline/model_index.json").write_text(
        json.dumps(
            {
                "_class_name": "FluxPipeline",
                "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
                "tokenizer": ["transformers", "CLIPTokenizer"],
                "vae": ["diffusers", "AutoencoderKL"],
            }
        )
    )
    (here / "pipeline/scheduler/scheduler_config.json").write_text('{"_class_name": "X", "a": "b"}')
    assert devplan("suggest", "./model", *CARDS, "-o", "map.yaml").status == 0
    answer = devplan("check", "map.yaml", "--baseline", "baseline.json", "--write-baseline")
    assert answer.status == 0, answer
    (here / "plain.yaml").write_text("model: 0\nlm_head: 0\n")
    (here / "wrapped.json").write_text(
        json.dumps({"model": "./model", "device_map": {"model": 0, "lm_head": 0}})
    )
    (here / "devplan.yaml").write_text(yaml.safe_dump(SETTINGS))
    (here / "log.txt").write_text(LOG)
    for name in ("torch", "transformers", "yaml", "evil", "modeling_evil"):
        for folder in (here, here / "model", here / "pipeline", here / "pipeline/scheduler"):
            (folder / f"{name}.py").write_text(canary.code())
    return here


def names_of(canary: Canary) -> list[Any]:
    """Ways to write the canary."""
    code = str(Path(canary.package) / "code.py")
    return [
        canary.factory,
        f"{canary.package}:build",
        f"{code}:build",
        f"./{code}",
        canary.package,
        f"{canary.package}.code.build",
        f"./{canary.package}",
        "evil.Evil",
        "evil--evil.Evil",
        ["evil.Evil", "evil.Evil"],
        [canary.package, "build"],
        {"AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", None], "AutoProcessor": "evil.E"},
        "../" * 9 + code,
        "os:abort",
        True,
    ]


def places(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """Where a document has text."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from places(value, (*path, key))
    elif isinstance(document, list):
        for number, value in enumerate(document[:3]):
            yield from places(value, (*path, number))
    elif isinstance(document, str):
        yield path


def put(document: Any, path: tuple, value: Any) -> Any:
    """The document with another value in that place; a path of one may be new."""
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def planted(name: str, text: str, data: Any, canary: Canary) -> str:
    """The text of a file with the canary in it."""
    value = data.draw(st.sampled_from(names_of(canary)))
    if name.endswith(".txt"):
        return text.replace("CANARY", str(value))
    document = json.loads(text) if name.endswith(".json") else yaml.safe_load(text)
    everywhere = sorted({*places(document), *((key,) for key in ADDED)}, key=str)
    for path in data.draw(st.lists(st.sampled_from(everywhere), min_size=1, max_size=2)):
        try:
            document = put(document, path, value)
        except (TypeError, KeyError):  # the first replaced what the second lies in
            continue
    return json.dumps(document) if name.endswith(".json") else yaml.safe_dump(document)


INSTALLED = {*importlib.metadata.packages_distributions(), *sys.stdlib_module_names, "tests"}


@pytest.mark.parametrize("kind", FILES)
def test_nothing_that_a_file_names_is_imported_or_called(
    devplan, project, canary, monkeypatch, kind
):
    asked: list[object] = []
    monkeypatch.setattr(builtins, "input", lambda question="": asked.append(question) or "y")
    name, commands = FILES[kind]
    text = (project / name).read_text()

    @settings(max_examples=4 if kind in FEW else 12, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def is_data(data):
        before = set(sys.modules)
        (project / name).write_text(planted(name, text, data, canary))
        for command in commands:
            answer = devplan(*command)
            assert answer.status in (0, 1, 2), answer.err
            assert not canary.has_sung, (command, (project / name).read_text())
        assert not asked
        new = {each for each in set(sys.modules) - before if file_of(each)}
        strange = {each for each in new if each.partition(".")[0] not in INSTALLED}
        assert not strange

    is_data()
    assert [each for each in list(sys.modules) if file_of(each).startswith(str(project))] == []


def file_of(module: str) -> str:
    """Where a module was imported from; empty for those that a library makes up."""
    return getattr(sys.modules[module], "__file__", None) or ""
