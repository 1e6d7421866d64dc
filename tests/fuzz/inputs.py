"""Inputs of every kind, each from a random generator: the same seed makes the same input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

from tests.fuzz import asked, folders, given, hubs, logs

Input = dict[str, Any]
"""What the file of an attack holds: files, run, stdin, hub, env."""

KINDS: Mapping[str, tuple[float, Callable[[Random], Input]]] = {
    "arguments": (0.2, asked.arguments),
    "maps": (0.17, given.bare_map),
    "maps of devplan": (0.1, given.whole_map),
    "locks": (0.03, given.lock),
    "baselines": (0.04, given.baseline),
    "settings": (0.1, given.settings),
    "configurations": (0.1, folders.configuration),
    "weights": (0.07, folders.weights),
    "files beside weights": (0.04, folders.companion),
    "pipelines": (0.03, folders.pipeline),
    "pasted text": (0.08, logs.pasted),
    "hub answers": (0.04, hubs.answer),
}


def make_input(seed: str, number: int) -> tuple[str, Input]:
    """The input of a number, and its kind."""
    rng = Random(f"{seed}/{number}")
    kind = rng.choices(list(KINDS), weights=[weight for weight, _ in KINDS.values()])[0]
    return kind, KINDS[kind][1](rng)


def as_file(data: bytes) -> Any:
    """Bytes as the content of a file in an attack."""
    return given.as_file(data)
