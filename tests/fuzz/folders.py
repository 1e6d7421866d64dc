"""Folders of models and of pipelines."""

from __future__ import annotations

import copy
import json
from functools import cache
from random import Random
from typing import Any

from tests.attacks.making import SEEDS, safetensors_bytes, weights_bytes
from tests.fuzz.given import as_file
from tests.fuzz.mutate import mutated_bytes, mutated_json, mutated_tree
from tests.fuzz.values import odd_key

_SMALL = {
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layer": 2,
    "n_layers": 2,
    "depth": 2,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
}
_PLAN = ("--gpus", "2x24GiB", "--context", "32", "-o", "-")


def _seed(name: str) -> Any:
    return json.loads((SEEDS / name).read_text(encoding="utf-8"))


@cache
def _configurations() -> tuple[dict[str, Any], ...]:
    """Of the catalogue, with few layers; the tiny ones as often as all of these."""
    from devplan.catalog import models

    known = []
    for entry in models.load_models():
        config = _few_layers(dict(entry.config))
        if entry.library == "transformers":
            known.append({**config, "architectures": [entry.class_name]})
    tiny = [_seed("llama/config.json"), _seed("vision/config.json")]
    return (*known, *(tiny * (len(known) // 2)))


def _few_layers(config: Any) -> Any:
    if not isinstance(config, dict):
        return config
    small = {key: _few_layers(value) for key, value in config.items()}
    for key, most in _SMALL.items():
        if isinstance(small.get(key), int) and small[key] > most:
            small[key] = most
    layers = small.get("num_hidden_layers")
    if isinstance(small.get("layer_types"), list) and isinstance(layers, int):
        small["layer_types"] = small["layer_types"][:layers]
    return small


def configuration(rng: Random) -> dict[str, Any]:
    """A model by its configuration alone."""
    config = mutated_json(rng, rng.choice(_configurations()))
    verify = () if rng.random() < 0.1 else ("--no-verify",)
    return {
        "files": {"own/config.json": as_file(config)},
        "run": ["suggest", "./own", *_PLAN, *verify],
    }


def weights(rng: Random) -> dict[str, Any]:
    """Headers of safetensors files and their index."""
    files: dict[str, Any] = {}
    if rng.random() < 0.3:
        files["own"] = {"copy": "sharded"}
        index = _seed("sharded/model.safetensors.index.json")
        files["own/model.safetensors.index.json"] = as_file(mutated_json(rng, index))
    elif rng.random() < 0.5:
        files["own"] = {"copy": "llama"}
        files["own/model.safetensors"] = _bad_weights(rng)
    else:
        config = {"architectures": ["NobodyKnows"], "model_type": "nobody"}
        files["own/config.json"] = json.dumps(config)
        files["own/model.safetensors"] = _bad_weights(rng)
    return {"files": files, "run": ["suggest", "./own", *_PLAN, "--no-verify"]}


def _bad_weights(rng: Random) -> Any:
    tensors = dict(_seed("llama/tensors.json")["model.safetensors"])
    if rng.random() < 0.5:
        return as_file(mutated_bytes(rng, weights_bytes(tensors)))
    for _ in range(rng.randint(1, 4)):
        name = rng.choice(list(tensors))
        tensors[odd_key(rng) or "x"] = tensors.pop(name)
    offset, header = 0, {}
    for name, shape in tensors.items():
        size = 2
        for number in shape:
            size *= number
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    if rng.random() < 0.7:
        header = mutated_tree(rng, header)
    length = rng.choice((None, None, None, 0, 2**31, 2**62, 2**64 - 1))
    data = rng.choice((offset, offset, offset, 0, offset + 5))
    try:
        return as_file(safetensors_bytes(header, length, data))
    except RecursionError:
        return as_file(b"\x10" + b"\0" * 7 + b"[" * 5000)


_BESIDE = {
    "tokenizer_config.json": "llama/tokenizer_config.json",
    "tokenizer.json": "llama/tokenizer.json",
    "generation_config.json": "llama/generation_config.json",
    "preprocessor_config.json": "vision/preprocessor_config.json",
}


def companion(rng: Random) -> dict[str, Any]:
    """What lies beside weights: tokenizers, processors, generation, templates."""
    model = rng.choice(("llama", "llama", "vision"))
    files: dict[str, Any] = {"own": {"copy": model}, "m.yaml": "model: 0\nlm_head: 0\n"}
    name = rng.choice((*_BESIDE, "chat_template.jinja", "processor_config.json"))
    if name in _BESIDE:
        files[f"own/{name}"] = as_file(mutated_json(rng, _seed(_BESIDE[name])))
    elif name == "processor_config.json":
        content = {"processor_class": "LlavaProcessor", "patch_size": 4, "auto_map": {}}
        files[f"own/{name}"] = as_file(mutated_json(rng, content))
    else:
        template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        files[f"own/{name}"] = as_file(mutated_bytes(rng, template.encode()))
    run = ["check", "m.yaml", "--model", "./own", "--gpus", "1GiB", "--context", "16"]
    return {"files": files, "run": run, "stdin": "y\ny\n"}


def pipeline(rng: Random) -> dict[str, Any]:
    """A pipeline with one of its files spoilt."""
    names = ["model_index.json"] * 3 + [
        "transformer/config.json",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "tokenizer/tokenizer_config.json",
    ]
    name = rng.choice(names)
    changed = mutated_json(rng, copy.deepcopy(_seed(f"pipe/{name}")))
    files = {"pipe": {"copy": "pipe"}, f"pipe/{name}": as_file(changed)}
    run = ["suggest", "./pipe", "--gpus", "2x1GiB", "--image-size", "32x32", "--no-verify"]
    return {"files": files, "run": [*run, "-o", "-"]}
