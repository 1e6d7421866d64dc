"""config.json: read, checked, and hashed.

What is checked here needs no library: that the text is a JSON object which names a class or a
model type.  Whether the installed libraries have that class is `devplan.models.native`'s matter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devplan.core import InputError, full_dtype_name
from devplan.io import CONFIG, INDEX, parse_json
from devplan.io import read_text as read_bounded_text

if TYPE_CHECKING:
    from torch import nn


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


# Most wrong values are left to the class: it raises, and the error becomes one line. These are
# values that a class would accept: a model with -1 layers, or with two thousand million layers
# one after the other until memory ends.

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


# Names of files that a file gives must be below its own folder. Only the name is checked. Links
# are not followed: huggingface_hub's cache is made of them.

_DRIVE = re.compile(r".:", re.DOTALL)


def is_below(name: str) -> bool:
    """Whether a name with ``/`` between folders leads nowhere but downwards, on any system."""
    if "\\" in name or "\0" in name or _DRIVE.match(name):
        return False
    return all(part not in ("", ".", "..") for part in name.split("/"))


def require_inside(name: str, where: str) -> str:
    """The name itself.

    Raises
    ------
    InputError
        When it leaves the folder.
    """
    if is_below(name):
        return name
    raise InputError(
        f"{where} names the file {name!r}, which is not below its own folder; download it again, "
        "or correct the name"
    )
