"""A diffusers pipeline: the index that names its components, and the source that they make up.

``model_index.json`` says of every component which library and class it is of; models lie in
folders of their own, with ``config.json`` and safetensors files, and so do the small things around
them: ``scheduler/scheduler_config.json``, tokenizers.  What else stands in the index are arguments
of the pipeline's class (``boundary_ratio``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from devplan.core import InputError
from devplan.models.config import (
    CONFIG_FILE,
    config_hash,
    library_and_class,
    parse_object,
    refuse_wrong_kinds,
    stated_dtype,
)
from devplan.models.source import ModelSource

PIPELINE_FILE = "model_index.json"
# In this order; a scheduler and a guider have the first and second of their own names.
_SMALL_CONFIGS = (
    "scheduler_config.json",
    "guider_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
)

ReadText = Callable[[str], str | None]
"""Text of a file by its path below the pipeline; None where there is none."""


def parse_pipeline_index(text: str, where: str) -> dict[str, Any]:
    """The content of a ``model_index.json``.

    Raises
    ------
    InputError
        When it is broken, names no class, or a component in another way than diffusers writes it.
    """
    index = parse_object(text, where)
    if not isinstance(index.get("_class_name"), str):
        raise InputError(
            f'{where} names no "_class_name" of a pipeline; download it again, or write the class, '
            'such as "FluxPipeline"'
        )
    for name, value in index.items():
        if not name.startswith("_") and isinstance(value, list):
            _require_component(name, value, where)
    return index


def _require_component(name: str, value: list[Any], where: str) -> None:
    """Refuse what is neither ``[library, class]`` nor ``[null, null]`` nor a list of numbers."""
    texts = [each for each in value if isinstance(each, str)]
    if texts and not (len(value) == len(texts) == 2):
        raise InputError(
            f'{where}: {name!r} is {value!r}; write its library and class, such as ["diffusers", '
            '"AutoencoderKL"], or [null, null] for none'
        )
    if texts and not name.isidentifier():
        raise InputError(
            f"{where}: {name!r} is no name of a component, which is a folder beside the index; "
            'write a name such as "vae"'
        )


def named_components(index: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(name, library, class) of every component that the pipeline has."""
    for name, value in index.items():
        is_pair = isinstance(value, list | tuple) and len(value) == 2
        if not name.startswith("_") and is_pair and all(isinstance(v, str) for v in value):
            yield name, value[0], value[1]


def component_source(
    name: str, library: str, class_name: str, read: ReadText, *, of: ModelSource
) -> ModelSource:
    """One component by what its folder holds; weights are not looked at.

    Raises
    ------
    InputError
        When its ``config.json`` is broken.
    """
    bare = ModelSource(
        id=f"{of.id.rstrip('/')}/{name}",
        origin=of.origin,
        location=of.location,
        library=library,
        class_name=class_name,
        subfolder=name,
        revision=of.revision,
    )
    text = read(f"{name}/{CONFIG_FILE}")
    if text is None:
        return replace(bare, config=_small_config(name, read))
    where = f"{bare.id}: {CONFIG_FILE}"
    config = parse_object(text, where)
    refuse_wrong_kinds(config, where)
    stated, _ = library_and_class(config, where)
    return replace(
        bare,
        library=stated,
        config=config,
        dtype=stated_dtype(config, where),
        config_hash=config_hash(config),
    )


def _small_config(name: str, read: ReadText) -> dict[str, Any]:
    for file in _SMALL_CONFIGS:
        text = read(f"{name}/{file}")
        if text is not None:
            return parse_object(text, f"{name}/{file}")
    return {}


def pipeline_source(source: ModelSource, components: Mapping[str, ModelSource]) -> ModelSource:
    """The source of a pipeline with its components; its hash is of all their configurations."""
    whole = replace(source, components=dict(components))
    notes = [f"{name}: {note}" for name, part in components.items() for note in part.notes]
    return replace(
        whole, config_hash=config_hash(whole_config(whole)), notes=(*source.notes, *notes)
    )


def whole_config(source: ModelSource) -> dict[str, Any]:
    """What the hash of a source is of: its configuration, and those of all its components."""
    own = dict(source.config or {})
    if not source.components:
        return own
    parts = {name: dict(part.config or {}) for name, part in source.components.items()}
    return {**own, "components": parts}
