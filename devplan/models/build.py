"""From a model source to a skeleton: one builder a library."""

from __future__ import annotations

import contextlib
import traceback
import warnings
from functools import partial
from typing import Any

import torch
from torch import nn

from devplan.core import (
    COMPUTE_DTYPES,
    InputError,
    UserCodeError,
    compute_dtype_name,
    parse_dtype,
    stored_float,
)
from devplan.models.boundary import CountedBuilding, of_the_library
from devplan.models.config import refuse_impossible, refuse_unreal, without_code
from devplan.models.from_tensors import skeleton_from_stored, skeleton_from_summary
from devplan.models.native import (
    native_class,
    remote_class_reference,
    require_native,
    why_not_native,
)
from devplan.models.pipeline_module import build_pipeline, pipeline_dtype
from devplan.models.quiet import never_asked
from devplan.models.source import ModelSource, Skeleton
from devplan.sandbox import exclusively, run_foreign

_META = torch.device("meta")


@exclusively
def build_skeleton(source: ModelSource, dtype: str | None = None) -> Skeleton:
    """The model of `source` on the meta device.

    Parameters
    ----------
    source
        What ``devplan.models.resolve`` found.
    dtype
        Dtype to compute in; None: what the checkpoint or its configuration states, float32 where
        neither does, as ``from_pretrained(dtype="auto")`` decides.

    Raises
    ------
    InputError
        When the installed libraries cannot build the class, the configuration does not fit it, or
        no model computes in `dtype`.
    """
    if dtype is not None and dtype != source.dtype:
        dtype = compute_dtype_name(dtype)
    if source.components:
        return build_pipeline(source, partial(_build, dtype=dtype or pipeline_dtype(source)))
    return _build(source, dtype)


def _build(source: ModelSource, dtype: str | None) -> Skeleton:
    if source.origin == "factory":
        return _from_factory(source, dtype)
    if source.library == "tensors":
        return skeleton_from_summary(source, dtype)
    if source.library == "diffusers":
        return _from_diffusers(source, dtype)
    return _from_transformers(source, dtype)


def _from_transformers(source: ModelSource, dtype: str | None) -> Skeleton:
    compute = _compute_dtype(source, dtype)
    if is_trusted_code(source):
        model_class, config = own_class(source)
        model = _instantiate(model_class, config, compute, source.id)
        notes = (f"runs the model's own code from {source.code_folder}",)
    elif source.stored and native_class(source) is None:
        return skeleton_from_stored(source, compute, why_not_native(source))
    else:
        model_class = require_native(source)
        config = _parse_config(model_class.config_class, source)
        model, notes = _instantiate(model_class, config, compute, source.id), _type_note(source)
    return Skeleton(
        model=model.eval(),
        config=config,
        class_name=type(model).__name__,
        dtype=compute,
        no_split=declared_no_split(model),
        max_tokens=_max_tokens(config) or _position_table(model),
        notes=notes,
    )


def _type_note(source: ModelSource) -> tuple[str, ...]:
    """Where the class that is named belongs to another model type, say so."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    model_type = (source.config or {}).get("model_type")
    if source.class_name is None or model_type in CONFIG_MAPPING_NAMES or model_type is None:
        return ()
    return (
        f"model type {model_type!r} is not one of transformers'; "
        f"built as {source.class_name}, which its configuration names",
    )


def _parse_config(config_class: type, source: ModelSource) -> Any:
    """The configuration object of the class, without quantization: sizes are devplan's matter."""
    config = without_code(source.config or {})
    content = {k: v for k, v in config.items() if k not in _NOT_STRUCTURE}
    refuse_impossible(content, source.id)
    said = f"{source.id}: {config_class.__name__} refuses the configuration"
    with of_the_library(said), _quiet():
        return config_class.from_dict(dict(content))


_NOT_STRUCTURE = frozenset({"quantization_config", "compression_config"})


def _instantiate(model_class: type, config: Any, dtype: torch.dtype, id: str) -> nn.Module:
    with of_the_library(_cannot_be_built(id, model_class)), _quiet(), _META, CountedBuilding(id):
        model = run_foreign(model_class._from_config, config, **{_dtype_keyword(): dtype})
    return refuse_unreal(model, id)


def _cannot_be_built(id: str, model_class: type) -> str:
    return f"{id}: {model_class.__name__} cannot be built from the configuration"


def _dtype_keyword() -> str:
    """``torch_dtype`` became ``dtype`` in transformers 4.56."""
    import transformers
    from packaging.version import Version

    return "dtype" if Version(transformers.__version__) >= Version("4.56") else "torch_dtype"


def _from_diffusers(source: ModelSource, dtype: str | None) -> Skeleton:
    model_class = require_native(source)
    compute = _compute_dtype(source, dtype)
    config, id = dict(source.config or {}), source.id
    refuse_impossible(config, id)
    quiet, said = _quiet_diffusers(), _cannot_be_built(id, model_class)
    with of_the_library(said), _quiet(), quiet, _META, CountedBuilding(id):
        model = model_class.from_config(config).to(compute)
    refuse_unreal(model, id)
    keep_in_float32(model)
    return Skeleton(
        model=model.eval(),
        config=model.config,
        class_name=type(model).__name__,
        dtype=compute,
        no_split=declared_no_split(model),
        max_tokens=None,
    )


def _from_factory(source: ModelSource, dtype: str | None) -> Skeleton:
    assert source.factory is not None
    model = run_foreign(source.factory)
    if dtype is not None:
        model = model.to(parse_dtype(dtype))
    config = getattr(model, "config", None)
    return Skeleton(
        model=model.eval(),
        config=config,
        class_name=type(model).__name__,
        dtype=_first_float_dtype(model),
        no_split=declared_no_split(model),
        max_tokens=_max_tokens(config) or _position_table(model),
    )


def declared_no_split(model: nn.Module) -> frozenset[str]:
    """Class names in ``_no_split_modules`` of the model and of every model inside it."""
    modules = list(model.modules())
    # Asking a module for an attribute that it lacks is slow, and most lack this one: ask its class,
    # once, and look into the instance's own attributes.
    declared = [getattr(kind, _NO_SPLIT, None) for kind in {type(module) for module in modules}]
    declared += [module.__dict__[_NO_SPLIT] for module in modules if _NO_SPLIT in module.__dict__]
    lists = (names for names in declared if isinstance(names, (list, tuple, set, frozenset)))
    return frozenset(name for names in lists for name in names)


_NO_SPLIT = "_no_split_modules"


def _compute_dtype(source: ModelSource, dtype: str | None) -> torch.dtype:
    if dtype is not None:
        return parse_dtype(dtype)
    if source.dtype is not None:
        return parse_dtype(source.dtype)
    stored = (stored_float(tensor.dtype) for tensor in (source.stored or {}).values())
    return parse_dtype(next((name for name in stored if name in COMPUTE_DTYPES), "float32"))


def _first_float_dtype(model: nn.Module) -> torch.dtype:
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    return next(floats, torch.float32)


_POSITIONS = (
    "max_position_embeddings",
    "max_target_positions",
    "max_text_positions",
    "n_positions",
    "max_seq_len",
)


def _max_tokens(config: Any) -> int | None:
    """Positions that the text part of a configuration promises, by its usual names."""
    if config is None:
        return None
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    for name in _POSITIONS:
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            return value
    return None


def _position_table(model: nn.Module) -> int | None:
    """Rows of the smallest table of learnt positions of a model of tokens; None: it has none.

    A configuration may call them by a name of its own (``block_size`` of Bark).
    """
    if getattr(model, "main_input_name", "") != "input_ids":
        return None
    tables = [
        module.num_embeddings
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and "position" in name.rpartition(".")[2]
    ]
    return min(tables, default=None)


@contextlib.contextmanager
def _quiet():
    """Libraries warn about missing kernels and old keys while a class is built; not our matter."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings(), never_asked():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)


@contextlib.contextmanager
def _quiet_diffusers():
    """diffusers warns on stderr of modules that it would keep in float32."""
    from diffusers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def keep_in_float32(model: nn.Module) -> None:
    """Cast the parameters that diffusers keeps in float32 whatever dtype a model is loaded in.

    ``ModelMixin.from_pretrained`` casts a parameter to float32 where a part of its name is listed
    in ``_keep_in_fp32_modules`` (``load_model_dict_into_meta``, diffusers 0.42); ``.to(dtype)``
    does not.  Code that adds such a bias to bfloat16 activations depends on it.
    """
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    if not kept:
        return
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and kept.intersection(name.split(".")):
            parameter.data = parameter.data.to(torch.float32)


def is_trusted_code(source: ModelSource) -> bool:
    """Whether the class is code that comes with the model, is there, and may run."""
    if not source.trust_remote_code or source.code_folder is None:
        return False
    return native_class(source) is None and remote_class_reference(source) is not None


def own_class(source: ModelSource) -> tuple[type, Any]:
    """The class and its configuration object, by the model's own code.

    Raises
    ------
    InputError
        When the code needs packages that are not here, or the configuration has no class.
    UserCodeError
        When the code raises while it is imported.
    """
    from transformers import AutoConfig
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    folder, reference = source.code_folder, remote_class_reference(source)
    try:
        with never_asked():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
            found = get_class_from_dynamic_module(reference, folder)
    except (ImportError, OSError, ValueError) as error:
        # [transformers] says in one of these that a package, a file or a model type is missing.
        reason = " ".join(str(error).split())
        raise InputError(
            f"{source.id}: its own code cannot be used ({reason}); install what is missing, or "
            "leave out --trust-remote-code to plan from the names and shapes of its tensors"
        ) from error
    except Exception as error:
        raise UserCodeError(
            f"{source.id}: its own code raised {type(error).__name__}: {error}",
            traceback_text=traceback.format_exc(),
        ) from error
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    return found, config
