"""A model as files, wherever they are: in a folder, on the hub, or in huggingface_hub's cache.

`Files` lists and reads them; `source_of_files` makes a `ModelSource` of them.  A diffusers pipeline
has an index in place of a configuration: ``model_index.json`` gives the library and class of every
component.  Models are in folders of their own, with ``config.json`` and safetensors files, and so
are the small things around them: ``scheduler/scheduler_config.json``, tokenizers.  Other entries of
the index are arguments of the pipeline's class (``boundary_ratio``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

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
from devplan.models.stored_tensors import StoredWeights

PIPELINE_FILE = "model_index.json"
ADAPTER_CONFIG_FILE = "adapter_config.json"
# In this order; a scheduler and a guider have the first and second of their own names.
_SMALL_CONFIGS = (
    "scheduler_config.json",
    "guider_config.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
)

ReadText = Callable[[str], str | None]
"""Text of a file by its path below the model; None where there is none."""


class Files(Protocol):
    """The files of one model or pipeline."""

    typed: str
    """The model as the user typed it."""
    identity: ModelSource
    """Where the files come from; what they hold is filled in by `source_of_files`."""

    def names(self) -> Sequence[str]:
        """Names of files with their path below the model, ``/`` between folders."""
        ...

    def where(self, name: str) -> str:
        """A file in the words of a message."""
        ...

    def read(self, name: str) -> str | None:
        """Text of a file; None where there is none."""
        ...

    def weights(self, component: str = "") -> StoredWeights:
        """Headers of the safetensors files of the model, or of a component."""
        ...

    def code_folder(self) -> str:
        """Local folder with the code that comes with the model."""
        ...


def source_of_files(files: Files) -> ModelSource:
    """The model or pipeline that the files are of.

    Raises
    ------
    InputError
        When they are none, or a file is broken.
    """
    text = files.read(CONFIG_FILE)
    if text is None and files.read(PIPELINE_FILE) is not None:
        return described_pipeline(files)
    if text is None:
        raise without_config(files.typed, files.names(), files.read)
    where, identity = files.where(CONFIG_FILE), files.identity
    config = parse_object(text, where)
    library, class_name = library_and_class(config, where)
    refuse_wrong_kinds(config, where)
    source = replace(
        identity,
        library=library,
        class_name=class_name,
        config=config,
        dtype=stated_dtype(config, where),
        config_hash=config_hash(config),
    )
    if identity.trust_remote_code and "auto_map" in config:
        source = replace(source, code_folder=files.code_folder())
    return _with_weights(source, files.weights())


def described_pipeline(files: Files, *, weights: bool = True) -> ModelSource:
    """A diffusers pipeline by its index and the configurations of its components.

    Parameters
    ----------
    files
        Of the pipeline.
    weights
        Whether the headers of the components' safetensors files are read.

    Raises
    ------
    InputError
        When the index or a configuration is broken.
    """
    index = parse_pipeline_index(files.read(PIPELINE_FILE) or "", files.where(PIPELINE_FILE))
    whole = replace(
        files.identity,
        library="diffusers",
        class_name=index["_class_name"],
        config=index,
        subfolder=None,
        trust_remote_code=False,
    )
    components = {}
    for name, library, class_name in named_components(index):
        part = component_source(name, library, class_name, files.read, of=whole)
        if weights and files.read(f"{name}/{CONFIG_FILE}") is not None:
            part = _with_weights(part, files.weights(name))
        components[name] = part
    return pipeline_source(whole, components)


def _with_weights(source: ModelSource, weights: StoredWeights) -> ModelSource:
    return replace(
        source,
        stored=weights.tensors,
        stored_metadata=weights.metadata,
        notes=(*source.notes, *weights.notes),
    )


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
            f"{where}: {name!r} is not a name of a component, which is a folder beside the index; "
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


def without_config(where: str, names: Sequence[str], read: ReadText) -> InputError:
    """The one line about `where`, which has no config.json.

    Parameters
    ----------
    where : str
        The folder or hub id as the user typed it.
    names : sequence of str
        Its files with their path below it, ``/`` between folders.
    read : callable
        Text of one of the files.
    """
    if ADAPTER_CONFIG_FILE in names:
        return _adapter(where, read)
    gguf = [name for name in names if name.endswith(".gguf")]
    if gguf:
        return InputError(
            f"{where} holds GGUF files only ({gguf[0]}); devplan plans checkpoints with a "
            f"{CONFIG_FILE}: give the model that it was converted from"
        )
    below = sorted(n.rpartition("/")[0] for n in names if n.endswith("/" + CONFIG_FILE))
    if below:
        return InputError(
            f"{where} has no {CONFIG_FILE}, but its {_listing(below, 'folder')} has: give "
            f"{where.rstrip('/')}/{below[-1]}"
        )
    held = _listing(sorted(n for n in names if "/" not in n), "file") if names else "nothing"
    return InputError(
        f"{where} has no {CONFIG_FILE} (it holds {held}); give the folder that save_pretrained "
        "wrote, or a hub id org/name"
    )


def _adapter(where: str, read: ReadText) -> InputError:
    content = parse_object(read(ADAPTER_CONFIG_FILE) or "", f"{where}/{ADAPTER_CONFIG_FILE}")
    base = content.get("base_model_name_or_path")
    remedy = f"plan its base model instead: {base}" if base else "give its base model instead"
    return InputError(f"{where} is an adapter without a {CONFIG_FILE}; {remedy}")


def _listing(names: Sequence[str], what: str, *, limit: int = 4) -> str:
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"{what}{'s' if len(names) > 1 else ''} {shown}"
