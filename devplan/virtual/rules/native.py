"""The facts of ``native.json``: which CUDA wrappers compare devices (see `publish`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources


@dataclass(frozen=True, kw_only=True)
class NativeFacts:
    """What torchgen says about the native functions of one torch release."""

    torch: str
    checked: dict[str, str]
    """``index_copy_`` -> ``index_copy_``: the wrapper's name after ``wrapper_CUDA_``."""
    unchecked: frozenset[str]
    composed: frozenset[str]


@cache
def native_facts() -> NativeFacts:
    """Read once."""
    text = resources.files(__package__).joinpath("native.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    return NativeFacts(
        torch=facts["torch"],
        checked=facts["checked"],
        unchecked=frozenset(facts["unchecked"]),
        composed=frozenset(facts["composed"]),
    )
