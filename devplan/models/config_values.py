"""Numbers of a configuration that no model has, found before a class is built from them.

Most wrong values are the class's own matter: it raises, and the error becomes one line.  These are
the ones of which it would make something: a model without layers of -1, or two thousand million
layers one after the other until memory ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from devplan.core import InputError

MOST_LAYERS = 2_000
"""Layers of one stack; the deepest model that is known has 126."""
MOST_PARTS = 100_000
"""Experts or heads of a layer, or labels; the most that are known are 21,843."""
LARGEST_NUMBER = 2**63 - 1
"""What the integers of PyTorch hold."""
MOST_PARAMETERS = 10**15
"""Of a model; the largest that is known has 10**12."""

_LAYERS = re.compile(
    r"(^|_)(num|n)_(\w+_)?(layers?|blocks?)$|^(n_?layers?|layers|depths?)$|coder_layers$"
    r"|layers_per_block$"
)
_PARTS = re.compile(
    r"(^|_)(num|n)_(\w+_)?(experts?|heads?)$|coder_(attention_)?heads$"
    r"|^num_(labels|classes)$"
)
_SIZES = re.compile(
    r"^(hidden_size|vocab_size|d_model|n_embd|embed_dim|hidden_dim)$"
    r"|^(\w+_)?(patch|merge|merge_kernel|pooling_kernel)_size$"
)
"""Widths that every tensor follows from, and what an image is divided by; others may be 0 for what
is left out."""

_OF_LIBRARIES = frozenset({"quantization_config", "compression_config", "auto_map"})


def refuse_impossible(config: Mapping[str, Any], id: str) -> None:
    """Refuse a configuration with a number that no model has.

    Raises
    ------
    InputError
        With the key, the number and what it may be.
    """
    for path, value in _numbers(config, ()):
        reason = _reason(path[-1], value)
        if reason:
            shown = str(value) if abs(value) < 10**20 else f"a number of {len(str(value))} digits"
            raise InputError(
                f"{id}: {'.'.join(path)} is {shown}, {reason}; correct its config.json"
            )


def _reason(key: str, value: int) -> str:
    if abs(value) > LARGEST_NUMBER:
        return "more than PyTorch can count"
    if _LAYERS.search(key):
        return _outside(value, 0, MOST_LAYERS)
    if _PARTS.search(key):
        return _outside(value, 0, MOST_PARTS)
    if _SIZES.search(key):
        return _outside(value, 1, LARGEST_NUMBER)
    return ""


def _outside(value: int, least: int, most: int) -> str:
    if value < least:
        return f"and a model has at least {least}"
    return f"and devplan builds up to {most:,}" if value > most else ""


def _numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key not in _OF_LIBRARIES:
                yield from _numbers(inner, (*path, str(key)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers(inner, path)
    elif isinstance(value, int) and not isinstance(value, bool) and path:
        yield path, value


def refuse_unreal(model: nn.Module, id: str) -> nn.Module:
    """The model that was built, unless it has no parameters or more than any machine holds.

    Raises
    ------
    InputError
        When there is nothing to place, or too much of it.
    """
    sizes = [tensor.numel() for tensor in model.state_dict(keep_vars=True).values()]
    if not any(sizes):
        raise InputError(
            f"{id}: {type(model).__name__} has no parameters as its configuration is; correct the "
            "sizes in its config.json"
        )
    if sum(sizes) > MOST_PARAMETERS:
        raise InputError(
            f"{id}: {type(model).__name__} would have {sum(sizes):.1e} parameters, and devplan "
            f"plans up to {MOST_PARAMETERS:.0e}; correct the sizes in its config.json"
        )
    return model
