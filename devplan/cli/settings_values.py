"""What each setting may hold: a reader for every key, which gives the value or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from devplan.core import OBJECTIVE_NAMES, parse_tokens


class Refused(Exception):
    """What would have been right, in words."""


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Refused("give text")
    return value.strip()


def _index_or_text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value)


def _listed(value: Any) -> str:
    """A list of indices and sizes, or the text that the command line would take."""
    return ",".join(map(_index_or_text, value if isinstance(value, list) and value else [value]))


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(map(_text, value if isinstance(value, list) else [value]))


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused("give a whole number above 0")
    return value


def _tokens(value: Any) -> int:
    tokens = parse_tokens(value) if isinstance(value, str) else _count(value)
    if not tokens:
        raise Refused("give a whole number of tokens, such as 32768 or 32k")
    return tokens


def _count_or_none(value: Any) -> int:
    if value == 0 and not isinstance(value, bool):
        return 0
    return _count(value)


def _switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused("give true or false")
    return value


def _objective(value: Any) -> str:
    if value not in OBJECTIVE_NAMES:
        raise Refused(f"give {', '.join(OBJECTIVE_NAMES[:-1])} or {OBJECTIVE_NAMES[-1]}")
    return value


def _pins(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Refused("give a mapping from module to device, such as model.norm: cuda:0")
    return {_text(module): _index_or_text(device) for module, device in value.items()}


def _reasons(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Refused("give a mapping from code to reason, such as DP203: ties are for training")
    return {_text(code): _text(reason) for code, reason in value.items()}


READERS: Mapping[str, Callable[[Any], Any]] = {
    "model": _text,
    "gpus": _listed,
    "memory": _listed,
    "main": _index_or_text,
    "reserve": _listed,
    "links": _listed,
    "batch": _count,
    "context": _tokens,
    "dtype": _text,
    "kv-dtype": _text,
    "images": _count_or_none,
    "image-size": _text,
    "frames": _count,
    "tiling": _switch,
    "objective": _objective,
    "pin": _pins,
    "no-pin": _switch,
    "offload": _texts,
    "output": _text,
    "ignore": _reasons,
}
