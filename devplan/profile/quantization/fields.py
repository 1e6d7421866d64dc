"""What the fields of a quantization config may hold, before any method reads them.

A config is data of whoever wrote it: a field that holds something else than its kind is refused
here, by its name, so that the methods compute with whole numbers and lists of names only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from devplan.core import InputError

Holds = Callable[[Any], bool]

_LARGEST_GROUP = 2**20
_MOST_BITS = 64


def require_fields(config: Mapping[str, Any]) -> None:
    """Refuse a quantization config of which a field holds another kind of value.

    Raises
    ------
    InputError
        With the field, what it holds and what it should.
    """
    _require(config, _FIELDS, "")
    for name, group in _groups(config):
        _require(group, _GROUP_FIELDS, f"{name}.")
        for part in ("weights", "input_activations"):
            _require(group.get(part) or {}, _ARGUMENT_FIELDS, f"{name}.{part}.")
    for pattern, layout in (config.get("dynamic") or {}).items():
        _require(layout, {name: _FIELDS[name] for name in ("bits", "group_size")}, f"{pattern}: ")


def _require(config: Mapping[str, Any], fields: Mapping[str, tuple[Holds, str]], path: str) -> None:
    for name, (holds, expected) in fields.items():
        value = config.get(name)
        if value is None or holds(value):
            continue
        raise InputError(
            f"{path}{name} of the quantization config is {_shown(value)}; it must be {expected}: "
            "correct it in config.json"
        )


def _groups(config: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"config_groups.{key}", group) for key, group in _items(config, "config_groups")]


def _items(config: Mapping[str, Any], name: str) -> list[tuple[str, Any]]:
    held = config.get(name) or {}
    return list(held.items())


def _shown(value: Any) -> str:
    text = str(value) if isinstance(value, int | float) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _bits(value: Any) -> bool:
    return _whole(value, 1, _MOST_BITS)


def _group(value: Any) -> bool:
    return _whole(value, 1, _LARGEST_GROUP) or _whole(value, -1, -1)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _names(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(map(_text, value))


def _lists_of_names(value: Any) -> bool:
    is_list = isinstance(value, list | tuple)
    return is_list and all(_text(item) or _lists_of_names(item) for item in value)


def _block(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(_whole(side, 1, _LARGEST_GROUP) for side in value)


def _table(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_text, value))


def _tables(value: Any) -> bool:
    return _table(value) and all(map(_table, value.values()))


def _layouts(value: Any) -> bool:
    """GPTQModel's ``dynamic``: patterns, each with what is otherwise for the modules it meets."""
    return _tables(value) and all(_is_pattern(key.removeprefix("+:")) for key in value)


def _is_pattern(text: str) -> bool:
    try:
        re.compile(text.removeprefix("-:"))
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _text_or_table(value: Any) -> bool:
    return _text(value) or _table(value)


_WHOLE_BITS = (_bits, f"a whole number from 1 to {_MOST_BITS}")
_WHOLE_GROUP = (_group, f"-1 or a whole number from 1 to {_LARGEST_GROUP:,}")
_NAMES = (_names, 'a list of module names, such as ["lm_head"]')
_PAIR = (_block, f"two whole numbers from 1 to {_LARGEST_GROUP:,}")
_TEXT = (_text, "text")

_FIELDS: Mapping[str, tuple[Holds, str]] = {
    "bits": _WHOLE_BITS,
    "w_bit": _WHOLE_BITS,
    "group_size": _WHOLE_GROUP,
    "q_group_size": _WHOLE_GROUP,
    "modules_to_not_convert": _NAMES,
    "modules_to_convert": _NAMES,
    "ignored_layers": _NAMES,
    "ignore": _NAMES,
    "llm_int8_skip_modules": _NAMES,
    "block_name_to_quantize": _TEXT,
    "modules_in_block_to_quantize": (_lists_of_names, "a list of lists of module names"),
    "dynamic": (_layouts, "an object from regular expressions to objects"),
    "weight_block_size": _PAIR,
    "config_groups": (_tables, "an object from names to objects"),
    "format": _TEXT,
    "weights": _TEXT,
    "quant_type": (_text_or_table, "text or an object"),
}
_GROUP_FIELDS: Mapping[str, tuple[Holds, str]] = {
    "targets": (_names, 'a list of classes or module names, such as ["Linear"]'),
    "format": _TEXT,
    "weights": (_table, "an object"),
    "input_activations": (_table, "an object"),
}
_ARGUMENT_FIELDS: Mapping[str, tuple[Holds, str]] = {
    "num_bits": _WHOLE_BITS,
    "group_size": _WHOLE_GROUP,
    "strategy": _TEXT,
    "block_structure": _PAIR,
}
