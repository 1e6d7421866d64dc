"""Which classes a pipeline's ``model_index.json`` may name: the index picks from a list.

They are the models, schedulers, guiders, tokenizers and processors of the installed transformers
and diffusers, and those that a package of ``diffusers.pipelines`` defines.  Nothing else is
imported, looked up or instantiated, whatever the index says.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from functools import cache

from devplan.core import InputError
from devplan.models.quiet_libraries import quiet_diffusers

LIBRARIES = ("transformers", "diffusers")

# What `DiffusionPipeline.from_pretrained` loads itself (`LOADABLE_CLASSES`, diffusers 0.42), less
# whole pipelines, ONNX and training; each as (module, name), since releases lack some.
_KINDS = (
    ("transformers", "PreTrainedModel"),
    ("transformers", "PreTrainedTokenizerBase"),
    ("transformers", "FeatureExtractionMixin"),
    ("transformers", "ProcessorMixin"),
    ("transformers.image_processing_utils", "BaseImageProcessor"),
    ("transformers.image_processing_base", "ImageProcessingMixin"),
    ("diffusers", "ModelMixin"),
    ("diffusers", "SchedulerMixin"),
    ("diffusers.guiders.guider_utils", "BaseGuidance"),
)


def component_class(id: str, library: str, class_name: str | None) -> type:
    """The class of a component.

    Parameters
    ----------
    id
        Of the component, for people.
    library
        ``transformers``, ``diffusers``, or a package of ``diffusers.pipelines``.
    class_name
        Of a model, scheduler, guider, tokenizer or processor in it.

    Raises
    ------
    InputError
        When it is not here, or is anything else.
    """
    if library not in LIBRARIES and library not in _pipeline_packages():
        raise InputError(
            f"{id} is a {class_name} of {library}, which is not here; a model_index.json names "
            "classes of transformers and diffusers: upgrade them, or correct the name"
        )
    found = _named(library, class_name or "")
    if found is None:
        raise InputError(
            f"{id} is a {class_name} of {library}, which is not here; upgrade transformers or "
            "diffusers, or correct the class in the pipeline's model_index.json"
        )
    is_own = found.__module__.partition(".")[0] in LIBRARIES
    if not is_own or not issubclass(found, _kinds()) or found in _kinds():
        raise InputError(
            f"{id} is a {class_name} of {library}, which is no model, scheduler, tokenizer or "
            "processor; correct the class in the pipeline's model_index.json"
        )
    return found


def _named(library: str, class_name: str) -> type | None:
    if not class_name.isidentifier() or class_name.startswith("_"):
        return None
    module = library if library in LIBRARIES else f"diffusers.pipelines.{library}"
    with contextlib.suppress(ImportError, RuntimeError), quiet_diffusers():
        found = getattr(importlib.import_module(module), class_name, None)
        return found if isinstance(found, type) else None
    return None


@cache
def _pipeline_packages() -> frozenset[str]:
    """The packages of ``diffusers.pipelines``, read off its folder: none of them is imported."""
    try:
        with quiet_diffusers():
            from diffusers import pipelines
    except ImportError:
        return frozenset()
    found = pkgutil.iter_modules(pipelines.__path__)
    return frozenset(each.name for each in found if each.ispkg and not each.name.startswith("_"))


@cache
def _kinds() -> tuple[type, ...]:
    found = []
    for module, name in _KINDS:
        with contextlib.suppress(ImportError), quiet_diffusers():
            kind = getattr(importlib.import_module(module), name, None)
            found += [kind] if isinstance(kind, type) else []
    return tuple(found)
