"""The arguments of ``from_pretrained``: what the map says, and what the caller adds.

The caller may add every argument that does not say again what the map says already.  Saying the
same is no contradiction: ``dtype="bfloat16"`` for a map in bfloat16 passes.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from devplan.core import (
    DeviceMapFile,
    InputError,
    ModelIdentity,
    NamedInFile,
    nearest,
    quantize_config,
)
from devplan.loader.target import Target
from devplan.mapfile import dtype_keyword, hub_parts, load_dtype
from devplan.models import ModelSource, is_factory, model_path, native_class, require_inside

_DTYPES = ("dtype", "torch_dtype")

# Said by the map, or meaningless beside one: argument -> why.
_THE_MAPS_OWN = {
    "device_map": "the map already places every tensor",
    "max_memory": "it bounds maps that accelerate makes, and this one is made",
    "tp_plan": "tensor parallelism and a device map exclude each other",
    "tp_size": "tensor parallelism and a device map exclude each other",
    "distributed_config": "tensor parallelism and a device map exclude each other",
    "device_mesh": "tensor parallelism and a device map exclude each other",
}


def refuse_clashes(target: Target, given: Mapping[str, Any]) -> None:
    """Refuse arguments that contradict the map.

    Raises
    ------
    InputError
        At the first, in one line.
    """
    for name, reason in _THE_MAPS_OWN.items():
        if given.get(name) is not None:
            raise InputError(f"{name}= does not go with {target.name}: {reason}; leave it out")
    if given.get("weights_only") is False:
        raise InputError(
            "weights_only=False would run code that is stored in a .bin file; leave it out, or "
            "convert the checkpoint to safetensors where you trust it"
        )
    assert target.content is not None
    _refuse_other_dtype(target, target.content, given)
    _refuse_other_quantization(target, target.content, given)
    _refuse_missing_package(target, target.content)


def _refuse_other_dtype(target: Target, content: DeviceMapFile, given: Mapping[str, Any]) -> None:
    wanted = load_dtype(content)
    for name in _DTYPES:
        value = given.get(name)
        if value is None or wanted == "auto":
            continue
        stated = str(value).removeprefix("torch.")
        if stated != wanted:
            raise InputError(
                f"{name}={stated} is not the {wanted} that {target.name} was made for; leave it "
                f"out, or plan again: devplan suggest {content.model.id} --dtype {stated}"
            )


_PACKAGES = {
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "quanto": ("optimum.quanto", "optimum-quanto"),
    "torchao": ("torchao", "torchao"),
}
"""Method that quantizes while loading -> the module that does it, and its name for pip."""


def _refuse_missing_package(target: Target, content: DeviceMapFile) -> None:
    if content.model.quantize is None:
        return
    method = _method(quantize_config(content.model.quantize))
    module, package = _PACKAGES.get(method, ("", ""))
    if module and not _is_here(module):
        raise InputError(
            f"{target.name} has the weights quantized by {method} while they are loaded, which is "
            f"not installed; pip install {package}"
        )


def _is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def _refuse_other_quantization(
    target: Target, content: DeviceMapFile, given: Mapping[str, Any]
) -> None:
    config = given.get("quantization_config")
    if config is None:
        return
    stated = _method(config)
    if content.model.quantization is None or stated not in content.model.quantization:
        made_for = content.model.quantization or "unquantized weights"
        raise InputError(
            f"quantization_config={stated} does not go with {target.name}, which was made for "
            f"{made_for}: its bytes per GPU would be others; plan again for the quantized model"
        )


def _method(config: Any) -> str:
    if isinstance(config, Mapping):
        method = config.get("quant_method")
    else:  # [pipelines] their configuration holds one for each model, and has no method of its own
        method = getattr(config, "quant_method", type(config).__name__)
    return str(getattr(method, "value", method))


def location(target: Target, model: str | None) -> tuple[str, str | None]:
    """What ``from_pretrained`` is given first, and the subfolder of a part of a repository."""
    assert target.content is not None
    if model is not None:
        return model, None
    place, subfolder = hub_parts(target.content)
    for part in (subfolder, target.content.model.revision):
        if part is not None:
            require_inside(part, target.name)
    named = NamedInFile(text=place, file=target.name, folder=target.folder)
    return (model_path(named) if subfolder is None else place), subfolder


def from_pretrained_arguments(
    target: Target, found: Loadable, model: str | None, given: Mapping[str, Any]
) -> dict[str, Any]:
    """All keyword arguments but the offload folder, the caller's last.

    Parameters
    ----------
    target
        The map.
    found
        The class that is called.
    model
        Where the caller says that the checkpoint is; None: where the map says.
    given
        The caller's arguments, without contradictions.
    """
    assert target.content is not None
    arguments: dict[str, Any] = {"device_map": target.hf_device_map}
    _, subfolder = location(target, model)
    if subfolder is not None:
        arguments["subfolder"] = subfolder
    # [revision] belongs to the id of the map; a folder or another id has none of it.
    if model is None and target.content.model.revision is not None:
        arguments["revision"] = target.content.model.revision
    if found.needs_trust:
        arguments["trust_remote_code"] = True
    if found.library == "transformers":
        arguments["weights_only"] = True
        if not _has_own_way(found.model_class):
            arguments["output_loading_info"] = True
    if target.content.model.quantize is not None:
        arguments["quantization_config"] = quantize_config(target.content.model.quantize)
    arguments |= {
        name: value for name, value in given.items() if name not in ("dtype", "torch_dtype")
    }
    return arguments | dtype_argument(target.content, found.library, given)


def dtype_argument(
    content: DeviceMapFile, library: str, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The dtype of the map as the keyword of a library; the caller's where the map leaves it."""
    wanted = load_dtype(content)
    stated = next((given[n] for n in _DTYPES if given.get(n) is not None), None)
    if library == "diffusers":
        import torch

        if wanted == "auto":
            return {} if stated is None else {"torch_dtype": stated}
        return {"torch_dtype": getattr(torch, wanted)}
    import transformers

    value = stated if wanted == "auto" and stated is not None else wanted
    return {dtype_keyword(transformers.__version__): value}


def _has_own_way(model_class: type) -> bool:
    """Whether a class of transformers loads more than weights (the voices of Qwen2.5-Omni).

    Its code works on what the library's ``from_pretrained`` gives, and does not expect a pair.
    """
    defined_in = next(c for c in model_class.__mro__ if "from_pretrained" in vars(c))
    return defined_in.__module__.startswith("transformers.models.")


# The class that loads a model: the map names it, and the library that it is from.


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
