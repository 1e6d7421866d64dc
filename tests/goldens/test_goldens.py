"""What the commands write for programs, word for word: ``golden/`` holds one file a command.

The reports of tests/report are made of example objects; these are of whole commands over models
of the catalogue, so that they show what a change of the code behind them does to the answers:
the JSON of ``suggest``, ``check``, ``compare``, ``fit``, ``graph``, ``diff``, ``explain``,
``doctor``, ``models`` and ``gpus``, and the SARIF, GitHub and JUnit reports of ``check``.

Left out of the comparison (`masked`): versions, this machine, the current folder, digits of
floating-point numbers that depend on the order of a sum, and the pages of the rules.  Long lists of
transfers are shortened to the first ones and a hash of all.

To renew them after a wanted change, and to read the difference with git::

    DEVPLAN_OVERWRITE=1 python -m pytest tests/goldens
    git diff tests/goldens
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
MAP = ROOT / "maps" / "qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"
LOG = ROOT / "tests" / "diagnosis" / "texts" / "indices-elsewhere.txt"
MOST_TRANSFERS = 6
"""So many are shown of one run; a vision-language model over two GPUs has hundreds."""
NUM_DIGITS = 6

SUFFIXES = {"github": ".txt", "junit": ".xml"}
"""Of the golden file, by what ``--format`` says; all others are JSON."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command line, run in a folder with ``map.yaml``, ``error.log`` and the broken maps."""

    line: str
    status: int = 0
    written: str | None = None
    """The file that holds the answer; None: stdout does."""

    @property
    def suffix(self) -> str:
        words = shlex.split(self.line)
        form = words[words.index("--format") + 1] if "--format" in words else "json"
        return SUFFIXES.get(form, ".json")


COMMANDS = {
    "suggest_vision_language": Command(
        line="suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --json"
    ),
    "suggest_mixture_of_experts": Command(line="suggest Qwen/Qwen3-30B-A3B --gpus 3x24GiB --json"),
    "suggest_quantized": Command(
        line="suggest openai/gpt-oss-20b --gpus 16GiB,12GiB --packed --json"
    ),
    "suggest_offload": Command(
        line="suggest meta-llama/Llama-3.1-8B-Instruct --gpus 12GiB --offload cpu=32GiB --json"
    ),
    "suggest_infeasible": Command(
        line="suggest Qwen/Qwen3-8B --gpus 8GiB,4GiB --json",
        status=1,
    ),
    "suggest_encoder_decoder": Command(
        line="suggest openai/whisper-large-v3 --gpus 3GiB,3GiB --json"
    ),
    "suggest_pipeline": Command(
        line="suggest black-forest-labs/FLUX.1-dev --gpus 24GiB,24GiB --json"
    ),
    "suggest_latency": Command(
        line="suggest meta-llama/Llama-3.2-3B-Instruct --gpus rtx-3060,rtx-4090 --links pcie4x16"
        " --objective latency --json"
    ),
    "suggest_most_context": Command(
        line="suggest meta-llama/Llama-3.2-3B-Instruct --gpus 6GiB,4GiB --main cuda:1"
        " --objective context --batch 2 --kv-dtype float16 --json"
    ),
    "check_clean": Command(line="check map.yaml --run generate --format json"),
    "check_names": Command(
        line="check founding-case.yaml --gpus 24GiB,12GiB --format json",
        status=1,
    ),
    "check_device_mismatch": Command(
        line="check divided-layer.yaml --gpus 2x24GiB --format json",
        status=1,
    ),
    "check_ignored": Command(
        line="check cards-of-another-machine.yaml --gpus 2x24GiB --ignore DP004=numbers"
        " --format json",
    ),
    "check_chosen_by_accelerate": Command(
        line="check --device-map auto --model Qwen/Qwen2.5-VL-3B-Instruct --gpus 12GiB,12GiB"
        " --run video,loss --format json",
    ),
    "check_sarif": Command(
        line="check embedding-on-the-second-card.yaml --gpus 24GiB,12GiB --format sarif",
        status=1,
    ),
    "check_github": Command(
        line="check renamed-modules.yaml tied-weights-apart.yaml --gpus 12GiB,12GiB"
        " --format github",
        status=1,
    ),
    "check_junit": Command(
        line="check whole-model-and-a-part.yaml --gpus 24GiB,12GiB --format junit",
        status=1,
    ),
    "compare": Command(line="compare Qwen/Qwen3-8B --gpus 16GiB,8GiB --format json"),
    "fit": Command(line="fit Qwen/Qwen3-8B --gpus 16GiB,8GiB --no-verify --format json"),
    "graph": Command(line="graph map.yaml -o graph.json", written="graph.json"),
    "diff": Command(line="diff map.yaml auto --format json", status=1),
    "explain": Command(line="explain error.log --map map.yaml --json"),
    "doctor": Command(line="doctor map.yaml --json", status=1),
    "models": Command(line="models Qwen3-30B-A3B --json"),
    "gpus": Command(line="gpus --json"),
}


def _is_pinned(name: str) -> bool:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return f"{name}=={version(name).partition('+')[0]}\n" in pinned


pytestmark = pytest.mark.skipif(
    not all(map(_is_pinned, ("torch", "transformers", "accelerate", "diffusers"))),
    reason="other releases run other ops, on other lines, than those of constraints.txt",
)


@pytest.mark.parametrize("name", COMMANDS)
def test_golden(name, devplan, here):
    if name == "doctor" and torch.cuda.is_available():
        pytest.skip("the golden file is of a machine without GPUs")
    for source in (MAP, LOG, *(ROOT / "maps" / "broken").glob("*.yaml")):
        shutil.copy(source, here)
    (here / MAP.name).rename(here / "map.yaml")
    (here / LOG.name).rename(here / "error.log")
    command = COMMANDS[name]
    answer = devplan(*shlex.split(command.line))
    assert answer.status == command.status, answer.err
    said = (here / command.written).read_text(encoding="utf-8") if command.written else answer.out
    text, path = masked(said.replace(str(here), "<here>"), command), golden_file(name)
    if os.environ.get("DEVPLAN_OVERWRITE"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text


def test_no_golden_file_is_forgotten():
    assert set(GOLDEN.iterdir()) == {golden_file(name) for name in COMMANDS}


def test_golden_files_name_no_module_of_devplan():
    for path in GOLDEN.iterdir():
        found = re.findall(r"\bdevplan[./]\w+[./]\w+", path.read_text(encoding="utf-8"))
        assert not found, f"{path.name} changes when {found[0]} is moved"


def golden_file(name: str) -> Path:
    return GOLDEN / f"{name}{COMMANDS[name].suffix}"


def masked(said: str, command: Command) -> str:
    """What is compared of an answer: JSON is indented, and without what other machines change."""
    if command.suffix != ".json":
        return said
    return json.dumps(_masked("", json.loads(said)), indent=2, ensure_ascii=False) + "\n"


def _masked(key: str, value: Any) -> Any:
    if key == "transfers" and isinstance(value, list):
        return _shortened([_masked("", each) for each in value])
    if key == "rules":  # of SARIF: the pages of all rules, which have a test of their own
        return [rule["id"] for rule in value]
    if key == "environment":
        return {name: "<of this machine>" for name in value}
    if key in {"versions", "devplan", "version", "semanticVersion"}:
        return "<version>"
    if isinstance(value, dict):
        return {name: _masked(name, inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_masked("", each) for each in value]
    return float(f"{value:.{NUM_DIGITS}g}") if isinstance(value, float) else value


def _shortened(items: list[Any]) -> list[Any]:
    if len(items) <= MOST_TRANSFERS:
        return items
    digest = hashlib.sha256(json.dumps(items).encode()).hexdigest()[:16]
    return [*items[:MOST_TRANSFERS], f"{len(items)} in all, of hash {digest}"]
