"""Command lines."""

from __future__ import annotations

from random import Random
from typing import Any

from tests.fuzz.values import FACTORIES, NUMBERS, TEXTS

_CARDS = ("1GiB", "1GiB,1GiB", "2x1GiB", "24GiB,12GiB", "rtx-4090", "h100", "0,1", "all", "64MiB")
_OPTIONS: dict[str, tuple[str, ...]] = {
    "--gpus": _CARDS,
    "--memory": ("1GiB", "1GiB,1GiB"),
    "--main": ("cuda:1", "0", "cpu"),
    "--reserve": ("1GiB", "0", "0=64MiB"),
    "--links": ("nvlink", "pcie4x16", "0-1:nvlink", "50GB/s"),
    "--batch": ("1", "2"),
    "--context": ("16", "64", "32k"),
    "--dtype": ("auto", "bfloat16", "float32"),
    "--kv-dtype": ("float16",),
    "--images": ("0", "1"),
    "--image-size": ("32x32",),
    "--frames": ("1",),
    "--inputs": ("mine.py:f",),
    "--objective": ("balance", "context", "fewest", "latency"),
    "--pin": ("lm_head=cuda:0", "model.layers.0=0"),
    "--offload": ("cpu", "disk", "cpu=1GiB"),
    "--output": ("-", "out.yaml", "out.json", "/dev/full", "/dev/null", "x/y.svg"),
    "--revision": ("main",),
    "--run": ("auto", "forward", "generate"),
    "--generate": ("num_beams=2", "max_new_tokens=3"),
    "--device-map": ("auto", "balanced", "sequential"),
    "--format": ("text", "json", "sarif", "github", "junit"),
    "--ignore": ("DP301=known", "DP205=x"),
    "--baseline": ("b.json",),
    "--timeout": ("5", "60"),
    "--model": ("./llama", "Qwen/Qwen3-8B", "./none"),
    "--card": ("rtx-4090", "24GiB"),
    "--map": ("m.yaml",),
    "--remap": ("r.yaml",),
    "--offload-folder": ("off",),
}
_FLAGS = ("--json", "--no-verify", "--no-pin", "--packed", "--force", "--explain", "--strict")
_FLAGS += ("--write-baseline", "--full", "--blocks", "--tiling", "--version", "--help", "--here")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "suggest": ("./llama", "--gpus", "1GiB,1GiB", "--context", "16", "--no-verify"),
    "check": ("m.yaml", "--model", "./llama", "--gpus", "1GiB,1GiB", "--context", "16"),
    "fit": ("./llama", "--gpus", "1GiB,1GiB", "--context", "16", "--no-verify"),
    "diff": ("m.yaml", "m.yaml", "--model", "./llama", "--gpus", "1GiB,1GiB", "--context", "16"),
    "graph": ("m.yaml", "--model", "./llama", "--gpus", "1GiB,1GiB", "--context", "16"),
    "models": ("Qwen3-8B",),
    "explain": ("log.txt",),
    "doctor": ("m.yaml",),
    "lock": ("m.yaml",),
}


def arguments(rng: Random) -> dict[str, Any]:
    """A command with some arguments too many, too few, or of strange values."""
    command = rng.choice(list(_COMMANDS))
    argv = [command, *_COMMANDS[command]]
    for _ in range(rng.choice((1, 1, 2, 3))):
        step = rng.random()
        if step < 0.5:
            option = rng.choice(list(_OPTIONS))
            argv += [option, _value(rng, option)]
        elif step < 0.65:
            argv.append(rng.choice(_FLAGS))
        elif step < 0.85 and argv:
            argv[rng.randrange(len(argv))] = odd_text(rng)
        elif argv:
            del argv[rng.randrange(len(argv))]
    files = {
        "llama": {"copy": "llama"},
        "m.yaml": "model: 0\nlm_head: 1\n",
        "log.txt": "RuntimeError: CUDA error: invalid device ordinal\n",
    }
    # An argument has no NUL; a factory that is typed may run.
    argv = [argument.replace("\0", "0") for argument in argv]
    argv = ["canary.plant" if argument in FACTORIES else argument for argument in argv]
    return {"files": files, "run": argv}


def _value(rng: Random, option: str) -> str:
    if option in ("--output", "--remap", "--baseline") or rng.random() < 0.35:
        return rng.choice(_OPTIONS[option])
    if rng.random() < 0.6:
        return odd_text(rng)
    good, place = rng.choice(_OPTIONS[option]), rng.random()
    cut = int(len(good) * place)
    return good[:cut] + odd_text(rng)[:50] + good[cut:]


def odd_text(rng: Random) -> str:
    value = rng.choice(TEXTS + tuple(map(_text, NUMBERS)))
    return {"\ud800": "\udcff"}.get(value, value)


def _text(number: Any) -> str:
    return str(number) if not isinstance(number, int) or number < 10**50 else "1" + "0" * 400
