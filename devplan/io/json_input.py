"""JSON of a file that was given."""

from __future__ import annotations

import json
import math
from typing import Any

from devplan.core import InputError

MOST_LEVELS = 100
"""Objects and lists inside one another; configurations have up to ten."""
MOST_DIGITS = 100
"""Of a number; a tokenizer without a limit writes one of 31."""
MOST_VALUES = 2_000_000
"""Commas and colons; the index of the largest checkpoint that is known has 280,000."""

# [special floats] transformers 5 writes these where JSON has no word for a float
# (``PreTrainedConfig._encode_special_floats``).
_TAG = "__float__"
_SPECIAL = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; `where` stands for the file in messages.

    Raises
    ------
    InputError
        When it is no JSON, or exceeds a bound.
    """

    def whole(digits: str) -> int:
        if len(digits) > MOST_DIGITS:
            raise InputError(
                f"{where} holds a number of {len(digits)} digits, and devplan reads up to "
                f"{MOST_DIGITS}; correct the file or download it again"
            )
        return int(digits)

    if text.count(",") + text.count(":") > MOST_VALUES:
        raise InputError(
            f"{where} holds more than {MOST_VALUES:,} values; check that it is the right file"
        )
    try:
        content = json.loads(text, parse_int=whole, object_hook=_special_float)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}, line {error.lineno}, column {error.colno}: broken JSON ({error.msg}); "
            "correct it or download the file again"
        ) from error
    except RecursionError:
        raise _too_deep(where) from None
    if _levels(content) > MOST_LEVELS:
        raise _too_deep(where)
    _refuse_half_characters(text, content, where)
    return content


def _special_float(content: dict[str, Any]) -> Any:
    tag = content.get(_TAG) if len(content) == 1 else None
    return _SPECIAL.get(tag, content) if isinstance(tag, str) else content


def _levels(content: Any) -> int:
    """How deeply it is nested, up to one more than may be; without recursion."""
    level, row = 0, [content]
    while row and level <= MOST_LEVELS:
        level += 1
        row = [
            inner
            for item in row
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
            if isinstance(inner, dict | list)
        ]
    return level


def _too_deep(where: str) -> InputError:
    return InputError(
        f"{where} is nested more than {MOST_LEVELS} levels deep; correct the file or download it "
        "again"
    )


def _refuse_half_characters(text: str, content: Any, where: str) -> None:
    """``"\\ud800"`` alone is not a character, and nothing that holds it can be written again."""
    if "\\ud" not in text.lower():
        return
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{where} holds half of a surrogate pair (\\ud800 to \\udfff), which is not a "
            "character; "
            "correct the file or download it again"
        ) from None
