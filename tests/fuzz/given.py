"""Maps, settings, baselines and locks."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.fuzz.mutate import mutated_bytes, mutated_json, mutated_tree
from tests.fuzz.values import odd_key, odd_value

ROOT = Path(__file__).parents[2]
LLAMA = {"llama": {"copy": "llama"}}
CARDS = ("--model", "./llama", "--gpus", "1GiB,1GiB", "--context", "16")
_FORMATS = ("text", "text", "json", "sarif", "github", "junit")
_BARE = (
    {"model": 0, "lm_head": 1},
    {"": 0},
    {
        "model.embed_tokens": 0,
        "model.layers.0": 0,
        "model.layers.1": 1,
        "model.norm": 1,
        "model.rotary_emb": 0,
        "lm_head": "cuda:1",
    },
    {"model": "./llama", "device_map": {"model": 0, "lm_head": "cpu"}},
    {"hf_device_map": {"model.layers": "disk", "model": 0, "lm_head": 0}},
)
_SETTINGS = {
    "model": "./llama",
    "gpus": ["1GiB", "1GiB"],
    "context": 16,
    "batch": 1,
    "reserve": "64MiB",
    "dtype": "bfloat16",
    "objective": "balance",
    "pin": {"lm_head": "cuda:0"},
    "no-pin": False,
    "offload": ["cpu=1GiB"],
    "links": "nvlink",
    "ignore": {"DP205": "known"},
    "images": 0,
    "image-size": "32x32",
    "main": "cuda:0",
}


def bare_map(rng: Random) -> dict[str, Any]:
    """A bare map, read by every command that reads maps."""
    data = bad_document(rng, rng.choice(_BARE))
    command = rng.choice(("check", "check", "check", "check", "diff", "graph", "explain", "doctor"))
    argv = ["check", "m.yaml", *CARDS, "--format", rng.choice(_FORMATS)]
    if command == "diff":
        argv = ["diff", "m.yaml", "good.yaml", *CARDS]
    elif command == "graph":
        argv = ["graph", "m.yaml", *CARDS]
    elif command == "explain":
        argv = ["explain", "log.txt", "--map", "m.yaml", "--model", "./llama"]
    elif command == "doctor":
        argv = [rng.choice(("doctor", "lock")), "m.yaml"]
    elif rng.random() < 0.3:
        argv = ["check", "m.yaml", *(() if rng.random() < 0.5 else ("--gpus", "1GiB"))]
    files = {
        **LLAMA,
        "m.yaml": as_file(data),
        "good.yaml": "model: 0\nlm_head: 0\n",
        "log.txt": "RuntimeError: CUDA error: invalid device ordinal\n",
    }
    return {"files": files, "run": argv}


@cache
def _maps() -> tuple[str, ...]:
    """Some maps of the gallery, made for a model that is small."""
    found = []
    for path in sorted((ROOT / "maps").glob("*.yaml"))[::2]:
        text = path.read_text(encoding="utf-8")
        if len(text) < 20_000:
            found.append(text)
    return tuple(found)


def whole_map(rng: Random) -> dict[str, Any]:
    """A map that devplan wrote, spoilt; what it is of is mostly not built."""
    text = rng.choice(_maps())
    if rng.random() < 0.5:
        data = mutated_bytes(rng, text.encode())
    else:
        data = as_yaml(mutated_tree(rng, yaml.load(text, Loader=yaml.CSafeLoader)))
    model = () if rng.random() < 0.2 else ("--model", "./llama")
    argv = rng.choice(
        (
            ["check", "m.yaml", *model],
            ["doctor", "m.yaml", *model],
            ["doctor", "m.yaml", *model, "--json"],
            ["doctor", "m.yaml", "--remap", "r.yaml"],
            ["lock", "m.yaml", *model],
            ["diff", "m.yaml", "good.yaml", *model],
            ["graph", "m.yaml", *model],
        )
    )
    return {"files": {**LLAMA, "m.yaml": as_file(data), "good.yaml": "model: 0\n"}, "run": argv}


def lock(rng: Random) -> dict[str, Any]:
    """A map whose section of the environment is strange."""
    document = yaml.load(rng.choice(_maps()), Loader=yaml.CSafeLoader)
    card = {
        "device": "cuda:0",
        "name": "NVIDIA A100",
        "uuid": "GPU-0",
        "compute_capability": "8.0",
        "total_bytes": 2**36,
    }
    section = {"cards": [card], "driver": "550.1", "cuda": "12.4", "versions": {"torch": "2.4.0"}}
    document["environment"] = mutated_tree(rng, section, rng.choice((1, 2, 3)))
    argv = rng.choice((["doctor", "m.yaml"], ["doctor", "m.yaml", "--json"], ["lock", "m.yaml"]))
    return {"files": {**LLAMA, "m.yaml": as_file(as_yaml(document))}, "run": [*argv]}


def settings(rng: Random) -> dict[str, Any]:
    """``devplan.yaml`` or a pyproject.toml."""
    content = {key: _SETTINGS[key] for key in rng.sample(list(_SETTINGS), rng.randint(2, 8))}
    content |= {"model": "./llama", "gpus": "1GiB,1GiB"}
    files: dict[str, Any] = {**LLAMA, "m.yaml": "model: 0\nlm_head: 0\n"}
    if rng.random() < 0.7:
        files["devplan.yaml"] = as_file(bad_document(rng, content))
    else:
        lines = [f"{key} = {json.dumps(value)}" for key, value in content.items()]
        text = "\n".join(["[tool.devplan]", *lines]).replace('{"lm_head": ', '{"lm_head" = ')
        text = text.replace('{"DP205": ', '{"DP205" = ')
        files["pyproject.toml"] = as_file(mutated_bytes(rng, text.encode()))
    argv = rng.choice(
        (
            ["suggest", "--no-verify", "-o", "-"],
            ["suggest", "--no-verify", "--json"],
            ["check", "m.yaml"],
            ["fit", "--no-verify"],
        )
    )
    return {"files": files, "run": argv}


def baseline(rng: Random) -> dict[str, Any]:
    """A baseline that is none."""
    finding = {"code": "DP205", "map": "m.yaml", "module": "lm_head", "message": "x"}
    content = {"version": 1, "findings": {"0123456789abcdef": finding}}
    write = ["--write-baseline"] if rng.random() < 0.2 else []
    return {
        "files": {
            **LLAMA,
            "m.yaml": "model: 1\nlm_head: 0\n",
            "b.json": as_file(mutated_json(rng, content)),
        },
        "run": ["check", "m.yaml", *CARDS, "--baseline", "b.json", *write],
    }


def bad_document(rng: Random, content: Any) -> bytes:
    """YAML or JSON of a tree, spoilt as a tree or as bytes."""
    if rng.random() < 0.6:
        content = mutated_tree(rng, content)
    if rng.random() < 0.3 and isinstance(content, dict):
        content = {**content, odd_key(rng): odd_value(rng)}
    data = as_yaml(content) if rng.random() < 0.75 else _as_json(content)
    return mutated_bytes(rng, data) if rng.random() < 0.4 else data


def _as_json(content: Any) -> bytes:
    try:
        return json.dumps(content).encode()
    except (RecursionError, ValueError):
        return b'{"a":' * 5000 + b"1" + b"}" * 5000


def as_yaml(content: Any) -> bytes:
    """As a program writes it; what cannot be written is written as JSON."""
    try:
        text = yaml.dump(content, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
        return text.encode("utf-8", errors="surrogatepass")
    except (RecursionError, yaml.YAMLError, UnicodeError, ValueError):
        return _as_json(content)


def as_file(data: bytes) -> Any:
    """Bytes as the content of a file in an attack."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"bytes": data.decode("latin-1")}
