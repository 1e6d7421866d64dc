"""Whether the installed libraries have the class that a config names.

The class that ``architectures`` names wins.  A model type that the installed transformers does not
know is no obstacle where it knows the class: ``kimi_k2`` names ``DeepseekV3ForCausalLM``.  Where a
config names no class, the model type stands for the class that its auto classes give, generation
first.

This module imports transformers or diffusers, and with them torch.
"""

from __future__ import annotations

import re
from typing import Any

from devplan.core import InputError, nearest
from devplan.models.source import ModelSource

# Auto classes of transformers in the order in which a model type without `architectures` is looked
# up: the whole model with its head before a part of it, encoder-decoders before their decoder.
_AUTO_TABLES = (
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def native_class(source: ModelSource) -> type | None:
    """The class of the installed transformers or diffusers, or None where they have none.

    Raises
    ------
    InputError
        When diffusers is not installed, or the class needs a package that is not.
    """
    if source.library == "diffusers":
        return _diffusers_class(source)
    if source.library != "transformers":
        return None
    name = source.class_name or _class_of_model_type(source)
    return None if name is None else _transformers_class(source.id, name)


def require_native(source: ModelSource) -> type:
    """The class as `native_class` gives it.

    Raises
    ------
    InputError
        When the installed libraries do not have it: with the nearest names, and whether
        ``--trust-remote-code`` would help.
    """
    found = native_class(source)
    if found is None:
        raise _not_native(source)
    return found


def why_not_native(source: ModelSource) -> str:
    """Why the class cannot be had, in words; `require_native` raises the same as an error."""
    return str(_not_native(source))


def remote_class_reference(source: ModelSource) -> str | None:
    """``file.Class`` in the model's own code that stands for its class, as ``auto_map`` has it.

    None where the model brings no code.  It is the entry for the class that `architectures` names;
    where no entry is, the first of an auto class for generation, then any model.
    """
    entry = _remote_entry(source)
    return None if entry is None else entry[1]


def remote_auto_class(source: ModelSource) -> str | None:
    """The auto class of transformers that loads what `remote_class_reference` names."""
    entry = _remote_entry(source)
    return None if entry is None else entry[0]


def _remote_entry(source: ModelSource) -> tuple[str, str] | None:
    auto_map = (source.config or {}).get("auto_map")
    if not isinstance(auto_map, dict):
        return None
    references = {
        key: value
        for key, value in auto_map.items()
        if key.startswith("AutoModel") and isinstance(value, str)
    }
    for key, reference in references.items():
        if reference.rpartition(".")[2] == source.class_name:
            return key, reference
    for key in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM", "AutoModel"):
        if key in references:
            return key, references[key]
    return next(iter(references.items()), None)


def _transformers_class(id: str, name: str) -> type | None:
    import transformers

    try:
        found = getattr(transformers, name, None)
    except (ImportError, RuntimeError) as error:
        reason = str(error).strip().replace("\n", " ")
        raise InputError(
            f"{id} needs {name}, which transformers {transformers.__version__} cannot import here "
            f"({reason}); install what is missing"
        ) from error
    missing = _missing_packages(found)
    if missing:
        raise InputError(f"{id} needs {name}, and with it {missing}, not here; pip install them")
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return found if is_model else None


def _missing_packages(found: Any) -> str:
    """What a class that transformers only stands in for (``DummyObject``) would need."""
    is_stand_in = type(found).__name__ == "DummyObject"
    return ", ".join(getattr(found, "_backends", ())) if is_stand_in else ""


def _diffusers_class(source: ModelSource) -> type | None:
    try:
        import diffusers
    except ImportError as error:
        raise InputError(
            f"{source.id} is a diffusers model ({source.class_name}) and diffusers is not "
            "installed; run pip install '.[diffusers]' in devplan's checkout"
        ) from error
    found = getattr(diffusers, source.class_name or "", None)
    is_model = isinstance(found, type) and issubclass(found, diffusers.ModelMixin)
    return found if is_model else None


def _class_of_model_type(source: ModelSource) -> str | None:
    from transformers.models.auto import modeling_auto

    model_type = (source.config or {}).get("model_type")
    for table in _AUTO_TABLES:
        name = getattr(modeling_auto, table, {}).get(model_type)
        if name is not None:
            return name if isinstance(name, str) else name[0]
    return None


def _not_native(source: ModelSource) -> InputError:
    if source.library == "diffusers":
        return _unknown_class("diffusers", source)
    if source.library != "transformers":
        return InputError(f"{source.id} is known by its tensors only; it cannot be built or run")
    if remote_class_reference(source) is not None:
        return _needs_remote_code(source)
    return _unknown_type(source)


def _needs_remote_code(source: ModelSource) -> InputError:
    import transformers

    what = source.class_name or f"model_type {(source.config or {}).get('model_type')!r}"
    return InputError(
        f"{source.id} is a {what}, which transformers {transformers.__version__} does not have; "
        "the model brings its own code: read it, and if you trust it add --trust-remote-code"
    )


def _unknown_type(source: ModelSource) -> InputError:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = (source.config or {}).get("model_type")
    if model_type in CONFIG_MAPPING_NAMES or not isinstance(model_type, str):
        return _unknown_class("transformers", source)
    named = f" (architectures: {source.class_name})" if source.class_name else ""
    return InputError(
        f"{source.id}: model_type {model_type!r}{named} is not among the "
        f"{len(CONFIG_MAPPING_NAMES)} of transformers {transformers.__version__}; upgrade "
        "transformers or, if the folder brings its own code, add --trust-remote-code"
        f"{nearest(model_type, CONFIG_MAPPING_NAMES)}"
    )


def _unknown_class(library: str, source: ModelSource) -> InputError:
    module = _library(library)
    named = source.class_name
    known = [name for name in dir(module) if not _NO_MODEL.search(name)]
    what = named or f"a model class for {(source.config or {}).get('model_type')!r}"
    hint = nearest(what, [name for name in known if name != named])
    if named is not None and named in dir(module):
        return InputError(
            f"{source.id} names {named}, which is not a model of {library} "
            f"{module.__version__}; name "
            f'the class of the model under "architectures" of its config.json{hint}'
        )
    return InputError(
        f"{source.id} needs {what}, which {library} {module.__version__} does not have; upgrade "
        f"{library}, or correct the name in its config.json{hint}"
    )


# Names of the libraries that are no model: private ones, functions and constants, `AutoModel` and
# its kin (not diffusers' `AutoencoderKL`), and what belongs beside a model.
_NO_MODEL = re.compile(
    r"^_|^[a-z]|^[A-Z0-9_]+$|^Auto[A-Z]|"
    r"(Config|Tokenizer|Fast|Backend|Processor|Extractor|Output|Pipeline)$"
)


def _library(name: str) -> Any:
    import importlib

    return importlib.import_module(name)
