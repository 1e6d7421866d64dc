"""How transformers is told to quantize a model while it loads it: ``--quantize`` and ``quantize=``.

One text stands for it everywhere, in maps too: a word, or a quantization config as JSON in one
line.  Equal configs have equal texts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from devplan.core.arguments import wrong
from devplan.core.errors import InputError, nearest

QUANTIZE_WORDS: Mapping[str, Mapping[str, Any]] = {
    "4bit": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "8bit": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "fp8": {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
}
"""Word -> the quantization config that it stands for."""

_MOST_CHARACTERS = 100_000
_ACCEPTED = f'{", ".join(QUANTIZE_WORDS)}, or a quantization config: {{"load_in_4bit": True}}'


def read_quantize(name: str, value: Any) -> str:
    """A word, a config as JSON, a mapping, or a config object of transformers, as the one text.

    Raises
    ------
    InputError
        When it is none of these.
    """
    if isinstance(value, str) and not value.lstrip().startswith("{"):
        return _word(name, value.strip())
    if not isinstance(value, str):
        to_dict = getattr(value, "to_dict", None)
        content = value if to_dict is None or isinstance(value, type) else to_dict()
        if not isinstance(content, Mapping) or not content:
            raise wrong(name, value, _ACCEPTED)
        value = _written(name, content)
    return _canonical(_parsed(name, value))


def quantize_config(text: str) -> dict[str, Any]:
    """The quantization config that a text of `read_quantize` stands for, a copy."""
    word = QUANTIZE_WORDS.get(text)
    return dict(word) if word is not None else _parsed("quantize", text)


def quantize_label(text: str) -> str:
    """A few characters for names of files: the word, or ``bitsandbytes-1a2b3c4d``."""
    if text in QUANTIZE_WORDS:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{quantize_config(text).get('quant_method', 'bitsandbytes')}-{digest}"


def _word(name: str, word: str) -> str:
    if word in QUANTIZE_WORDS:
        return word
    raise InputError(
        f"{name} {word!r} is none of {', '.join(QUANTIZE_WORDS)}, nor a .json file with a "
        f"quantization config{nearest(word, QUANTIZE_WORDS)}"
    )


def _written(name: str, content: Mapping[Any, Any]) -> str:
    # [private] transformers writes _load_in_4bit beside load_in_4bit.
    public = {key: value for key, value in content.items() if not str(key).startswith("_")}
    try:
        return json.dumps(public, default=_plain)
    except (TypeError, ValueError, RecursionError):
        raise InputError(
            f"{name}: the quantization config holds something that JSON has no word for; give "
            f"{_ACCEPTED}"
        ) from None


def _plain(value: Any) -> Any:
    """Members of enumerations and dtypes as text."""
    inner = getattr(value, "value", None)
    if isinstance(inner, str):
        return inner
    if type(value).__module__ == "torch":
        return str(value).removeprefix("torch.")
    raise TypeError


def _parsed(name: str, text: str) -> dict[str, Any]:
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it has {len(text):,} characters")
        content = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        said = str(error) or "too many levels"
        raise InputError(f"{name} holds no quantization config as JSON: {said}") from None
    if not isinstance(content, dict) or not content:
        raise InputError(
            f'{name} holds no JSON object; write a quantization config: {{"load_in_4bit": true}}'
        )
    return content


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not a number of JSON")


def _canonical(content: dict[str, Any]) -> str:
    if "quant_method" not in content and any(content.get(f"load_in_{bits}bit") for bits in (4, 8)):
        content = {**content, "quant_method": "bitsandbytes"}
    for word, config in QUANTIZE_WORDS.items():
        if content == config:
            return word
    return json.dumps(content, sort_keys=True)
