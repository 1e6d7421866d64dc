"""config.json: read, checked, and hashed.

What is checked here needs no library: that the text is a JSON object which names a class or a
model type.  Whether the installed libraries have that class is `devplan.models.native`'s matter.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from devplan.core import InputError, full_dtype_name
from devplan.io import CONFIG, INDEX, parse_json
from devplan.io import read_text as read_bounded_text

CONFIG_FILE = "config.json"
_LONGEST_CLASS = 200

# Written by the library that saved the file, without meaning for the model: two configs that differ
# only here describe the same model.  `save_pretrained` of transformers and diffusers sets them.
VOLATILE_KEYS = frozenset(
    {
        "transformers_version",
        "_name_or_path",
        "_commit_hash",
        "_diffusers_version",
        "_attn_implementation_autoset",
    }
)


def read_config_text(path: Path) -> str:
    """Text of a configuration, or of the index of a checkpoint's shards, which may be larger."""
    return read_bounded_text(path, INDEX if ".index." in path.name else CONFIG)


def parse_object(text: str, where: str) -> dict[str, Any]:
    """The JSON object in `text`.

    Parameters
    ----------
    text : str
        Content of the file.
    where : str
        Name of the file for messages.

    Raises
    ------
    InputError
        For broken JSON (with line and column) and for JSON that is no object.
    """
    content = parse_json(text, where)
    if not isinstance(content, dict):
        kind = {list: "a list", str: "a string", type(None): "null"}.get(
            type(content), f"the value {_shown(content)}"
        )
        raise InputError(f"{where} holds {kind} where an object {{...}} is needed")
    return content


def library_and_class(config: Mapping[str, Any], where: str) -> tuple[str, str | None]:
    """Library that a config is for, and the class that it names (None: only a model type).

    Raises
    ------
    InputError
        When the config names neither a class nor a model type.
    """
    if isinstance(config.get("_class_name"), str):
        return "diffusers", _class_of(config["_class_name"], where)
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(a, str) for a in architectures):
        raise InputError(
            f'{where}: "architectures" is {_shown(architectures)}; write a list of class names, '
            'such as ["LlamaForCausalLM"]'
        )
    if architectures:
        return "transformers", _class_of(architectures[0], where)
    if not isinstance(config.get("model_type"), str):
        raise InputError(
            f'{where} has neither "architectures" nor "model_type", so no class can be built from '
            'it; add both, such as "architectures": ["LlamaForCausalLM"], "model_type": "llama"'
        )
    return "transformers", None


def _class_of(name: str, where: str) -> str:
    if name.isidentifier() and len(name) <= _LONGEST_CLASS:
        return name
    raise InputError(
        f"{where} names the class {_shown(name)}, which no class can be called; write its name, "
        'such as "LlamaForCausalLM"'
    )


def stated_dtype(config: Mapping[str, Any], where: str) -> str | None:
    """The dtype that a config states, itself or in its text config: ``bfloat16``.

    Raises
    ------
    InputError
        When what it states is no dtype.
    """
    for part in (config, config.get("text_config")):
        if isinstance(part, Mapping):
            dtype = part.get("dtype") or part.get("torch_dtype")
            if isinstance(dtype, str) and dtype != "auto":
                return _checked_dtype(dtype, where)
    return None


def _checked_dtype(dtype: str, where: str) -> str:
    try:
        return full_dtype_name(dtype)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def refuse_wrong_kinds(config: Mapping[str, Any], where: str) -> None:
    """Refuse a part of a config that is no object where devplan reads one.

    Raises
    ------
    InputError
        With the key and what it holds.
    """
    for name, part in _parts(config):
        model_type = part.get("model_type")
        if model_type is not None and not isinstance(model_type, str):
            raise InputError(
                f'{where}: "{name}model_type" is {_shown(model_type)} where text is needed, '
                'such as "llama"; correct it'
            )
    held = config.get("quantization_config")
    if held is not None and not isinstance(held, Mapping):
        raise InputError(
            f'{where}: "quantization_config" is {_shown(held)} where an object {{...}} is needed, '
            'such as {"quant_method": "gptq", "bits": 4}; correct it or remove it'
        )


def _parts(config: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A config and those inside it, each with its name and a dot."""
    yield name, config
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _parts(value, f"{name}{key}.")


def names_code(key: str, value: Any) -> bool:
    """Whether an entry of a config names code to fetch or run: ``auto_map``, or an attention whose
    name is that of a repository (``attn_implementation: org/kernel``)."""
    if key == "auto_map":
        return True
    texts = value.values() if isinstance(value, Mapping) else (value,)
    is_choice = key.endswith("_implementation") or key.endswith("_implementation_internal")
    return is_choice and any(isinstance(text, str) and "/" in text for text in texts)


def without_code(value: Any) -> Any:
    """A config without what names code, at any depth."""
    if isinstance(value, Mapping):
        return {
            key: without_code(inner)
            for key, inner in value.items()
            if not names_code(str(key), inner)
        }
    return [without_code(inner) for inner in value] if isinstance(value, list) else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of what a config says about the model.

    It does not depend on the order of keys, on the keys that saving rewrites (`VOLATILE_KEYS`), nor
    on whether the dtype is spelled ``torch_dtype`` (transformers 4) or ``dtype`` (transformers 5).
    """
    text = json.dumps(_canonical(config), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            "dtype" if key == "torch_dtype" else str(key): _canonical(inner)
            for key, inner in value.items()
            if key not in VOLATILE_KEYS and not (key == "torch_dtype" and "dtype" in value)
        }
    if isinstance(value, list | tuple):
        return [_canonical(inner) for inner in value]
    return value
