"""Arguments of a pipeline's ``from_pretrained``: who gets which, and what nobody would take.

diffusers says of an argument that it does not know that it will be ignored, and of those of one
model (``attn_implementation``) knows nothing.  Here each is used, or refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from devplan.core import InputError

_HUB = ("cache_dir", "force_download", "proxies", "local_files_only", "token")
"""Of the download."""
_FILES = ("variant", "use_safetensors")
"""Which of several files of a model; the pipeline's, and each model's."""
_BY_THE_MAP = ("dtype", "torch_dtype", "revision", "weights_only")
"""Handled apart from the others."""


def refuse_unknown(
    given: Mapping[str, Any], pipeline_class: type, components: Collection[str]
) -> None:
    """Refuse what the pipeline's class does not take, and models that the map places.

    Raises
    ------
    InputError
        At the first, in one line.
    """
    own = [*inspect.signature(pipeline_class.__init__).parameters][1:]
    known = {*_HUB, *_FILES, *_BY_THE_MAP, *own}
    for name, value in given.items():
        if name in components:
            raise InputError(
                f"{name}= is a model that the map places, and devplan.load loads it; to place a "
                "model of your own make the pipeline with it, and devplan.apply(pipeline, map)"
            )
        if name not in known and value is not None:
            others = ", ".join(n for n in own if n not in components)
            raise InputError(
                f"{name}= goes to no part of a {pipeline_class.__name__} that a map places; leave "
                f"it out: what can be given is {', '.join((*_HUB, *_FILES))}, {others}"
            )


def hub_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the download."""
    return {name: given[name] for name in _HUB if name in given}


def own_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the pipeline's own ``from_pretrained``, which finds the files on this machine."""
    taken = (*_HUB, *_BY_THE_MAP)
    return {name: value for name, value in given.items() if name not in taken}


def component_arguments(given: Mapping[str, Any], folder: Path, library: str) -> dict[str, Any]:
    """Those of one model.

    A variant is asked for where the model has files of it, as diffusers does
    (``_identify_model_variants``, 0.42): a pipeline in two variants may share a model.
    """
    found: dict[str, Any] = {"output_loading_info": True}
    if given.get("use_safetensors") is not None:
        found["use_safetensors"] = given["use_safetensors"]
    variant = given.get("variant")
    if variant is not None and _has_variant(folder, variant):
        found["variant"] = variant
    if library == "transformers":
        found["weights_only"] = True
    return found


def _has_variant(folder: Path, variant: str) -> bool:
    """``model.fp16.safetensors``, ``model.fp16-00001-of-00002.safetensors``, an index of them."""
    named = re.compile(rf"\.{re.escape(variant)}(-\d+-of-\d+)?\.(safetensors|bin|json)$")
    return any(named.search(path.name) for path in folder.glob("*"))
