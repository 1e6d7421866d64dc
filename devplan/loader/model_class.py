"""Which class loads a model: the one that the map names, in the library that the map names."""

from __future__ import annotations

from dataclasses import dataclass

from devplan.core import InputError, ModelIdentity, nearest
from devplan.loader.target import Target
from devplan.models import ModelSource, is_factory, native_class


@dataclass(frozen=True, kw_only=True)
class Loadable:
    """A class with ``from_pretrained``, and where it is from."""

    model_class: type
    library: str
    """``transformers`` or ``diffusers``."""
    needs_trust: bool = False
    """Whether it runs code that comes with the model."""


def loadable(target: Target, *, trust_remote_code: bool) -> Loadable:
    """The class that a map names.

    Raises
    ------
    InputError
        When the map names none, the installed library does not have it, or it is code that comes
        with the model and may not run.
    """
    if target.content is None:
        raise InputError(
            f"{target.name} is a bare device map and names no class; load the model with "
            "from_pretrained(device_map=...) and give it to devplan.apply, or write a full map: "
            "devplan suggest"
        )
    identity = target.content.model
    if is_factory(identity.id) and not identity.auto_class:
        raise InputError(
            f"{target.name} is of {identity.id}, a function of yours, which has no from_pretrained;"
            " build the model with its weights and give it to devplan.apply"
        )
    library = "diffusers" if "diffusers" in target.content.versions else "transformers"
    if identity.auto_class:
        return _auto_class(target.name, identity, trust_remote_code)
    found = native_class(
        ModelSource(
            id=identity.id,
            origin="folder",
            location=None,
            library=library,
            class_name=identity.class_name,
        )
    )
    if found is None:
        raise _not_installed(target.name, identity.class_name, library)
    return Loadable(model_class=found, library=library)


def _auto_class(map_name: str, identity: ModelIdentity, trusted: bool) -> Loadable:
    import transformers

    if not trusted:
        raise InputError(
            f"{map_name}: {identity.class_name} is code that comes with {identity.id}; read it, "
            "and if you trust it give trust_remote_code=True"
        )
    found = getattr(transformers, identity.auto_class or "", None)
    if not hasattr(found, "from_pretrained"):
        raise _not_installed(map_name, identity.auto_class or "", "transformers")
    return Loadable(model_class=found, library="transformers", needs_trust=True)


def _not_installed(map_name: str, class_name: str, library: str) -> InputError:
    import importlib

    module = importlib.import_module(library)
    known = [name for name in dir(module) if name[:1].isupper() and name != class_name]
    return InputError(
        f"{map_name} is of {class_name}, which {library} {module.__version__} does not have; "
        f"install the version that the map was made with{nearest(class_name, known)}"
    )
