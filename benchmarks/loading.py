"""Loading a checkpoint of some GiB by a map: `devplan.load` beside plain ``from_pretrained``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Report, Requirement, Table
from devplan.core.units import GIB

NUM_ROUNDS = 5
NUM_WARM_UPS = 1
MOST_ABOVE = 0.05
WAYS = ("plain", "devplan")

LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY = 12, 2048, 8192, 32_000
CASES = {
    "all read and converted": {"cuda:0": "cpu", "cuda:1": "cpu"},
    "half left on disk": {"cuda:0": "cpu", "cuda:1": "disk"},
}
"""Case -> what stands in for the two cards of the map."""

SMALL = {
    "LAYERS": 2,
    "HIDDEN": 64,
    "INTERMEDIATE": 64,
    "VOCABULARY": 64,
    "NUM_WARM_UPS": 0,
    "NUM_ROUNDS": 1,
    "CASES": dict([*CASES.items()][1:]),
}

PROSE = f"""
A Llama of {LAYERS} layers is written in float32, several GiB of safetensors in shards; its map, by
`devplan suggest` for two cards, is in bfloat16, so that every byte is read and converted (stored in
bfloat16, weights for the CPU would be mapped from the file and not read, and nothing would be
measured).  There is no GPU: the CPU stands in for both cards, or the CPU for one and the disk for
the other.

Each load is a process of its own, both ways in turns, {NUM_ROUNDS} rounds after one that is thrown
away and fills the file cache.  plain is `yaml.safe_load` of the map and
`from_pretrained(device_map=...)` with the same dict; devplan is `devplan.load`, which compares the
machine, looks at the headers, loads by the same `from_pretrained`, and audits every tensor and
hook.  On cards `from_pretrained` puts accelerate's hooks on by `dispatch_model`; where the CPU
stands in for all of them it does not, devplan does, and plain is given the same call.
The ratio is of the best processor times, as the files are in memory and nothing waits; the wall
clock shows what else the machine did.  Imports are not in the times of either way; what
`import devplan` takes beside torch and transformers is in a column of its own.
"""


@dataclass(frozen=True, kw_only=True)
class Load:
    """One process."""

    wall_s: float
    cpu_s: float
    import_s: float


def measure() -> Report:
    """Both ways in turns, for each case."""
    with tempfile.TemporaryDirectory() as place:
        folder, map_path = _checkpoint(Path(place))
        stored = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        found = {case: _in_turns(map_path, folder, here) for case, here in CASES.items()}
    rows = [
        _row(case, way, loads, found[case])
        for case, ways in found.items()
        for way, loads in ways.items()
    ]
    return Report(
        title="Loading",
        prose=PROSE,
        tables=(Table(title=f"{stored / GIB:.2f} GiB of float32", rows=rows),),
        requirements=[_requirement(case, ways) for case, ways in found.items()],
    )


def _checkpoint(place: Path) -> tuple[Path, Path]:
    """Written by a process that ends, as its memory is not this one's matter."""
    folder, map_path = place / "llama", place / "map.yaml"
    sizes = map(str, (LAYERS, HIDDEN, INTERMEDIATE, VOCABULARY))
    _python("-m", "benchmarks.loading", str(folder), *sizes)
    gpus = ["--gpus", "4GiB,4GiB", "--context", "1024", "--dtype", "bfloat16"]
    _python("-m", "devplan", "suggest", str(folder), *gpus, "-o", str(map_path))
    return folder, map_path


def write_checkpoint(
    folder: Path, layers: int, hidden: int, intermediate: int, vocabulary: int
) -> None:
    """Shards of a few layers each, one after the other: never all weights in memory."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=16, num_key_value_heads=4, vocab_size=vocabulary, dtype="float32",
        architectures=["LlamaForCausalLM"],
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    folder.mkdir()
    config.save_pretrained(folder)
    some = torch.randn(vocabulary * hidden, generator=torch.Generator().manual_seed(0)) * 0.02
    shards: dict[str, list[str]] = {}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    for name in shapes:
        parts = name.split(".")
        key = str(int(parts[2]) // 4) if parts[1] == "layers" else "ends"
        shards.setdefault(f"model-{key}.safetensors", []).append(name)
    for file, names in shards.items():
        tensors = {n: some[: shapes[n].numel()].reshape(shapes[n]).clone() for n in names}
        save_file(tensors, folder / file, {"format": "pt"})
    index = {
        "metadata": {"total_size": 4 * sum(shape.numel() for shape in shapes.values())},
        "weight_map": {name: file for file, names in shards.items() for name in names},
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _in_turns(map_path: Path, folder: Path, here: Mapping[str, str]) -> dict[str, list[Load]]:
    loads: dict[str, list[Load]] = {way: [] for way in WAYS}
    arguments = (str(map_path), str(folder), json.dumps(here))
    for turn in range(NUM_WARM_UPS + NUM_ROUNDS):
        for way in WAYS:
            answer = _python("-m", "benchmarks.one_load", way, *arguments)
            if turn >= NUM_WARM_UPS:  # the first round fills the file cache and writes byte code
                loads[way].append(Load(**json.loads(answer)))
    return loads


def _python(*words: str) -> str:
    command = [sys.executable, *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout


def _row(
    case: str, way: str, loads: Sequence[Load], both: Mapping[str, Sequence[Load]]
) -> dict[str, Any]:
    ratio = _best(loads) / _best(both["plain"])
    return {
        "case": case,
        "way": way,
        "best CPU s": f"{_best(loads):.2f}",
        "median CPU s": f"{median(load.cpu_s for load in loads):.2f}",
        "to plain": f"{ratio:.3f}",
        "best wall s": f"{min(load.wall_s for load in loads):.2f}",
        "import s": f"{min(load.import_s for load in loads):.2f}" if way == "devplan" else "-",
    }


def _best(loads: Sequence[Load]) -> float:
    """Of the processor: what else the machine does lengthens the wall clock's more."""
    return min(load.cpu_s for load in loads)


def _requirement(case: str, both: Mapping[str, Sequence[Load]]) -> Requirement:
    above = _best(both["devplan"]) / _best(both["plain"]) - 1
    return Requirement(
        text=f"{case}: at most {MOST_ABOVE:.0%} over plain from_pretrained",
        measured=f"{above:+.1%}",
        met=above <= MOST_ABOVE,
    )


if __name__ == "__main__":
    write_checkpoint(Path(sys.argv[1]), *map(int, sys.argv[2:]))
