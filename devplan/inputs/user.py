"""The way out: a function of the user's that makes the inputs.

``--inputs file.py:function`` names it.  It is called without arguments, or with the model (on
meta) and its configuration, and gives the keyword arguments of ``forward`` or ``generate``.
"""

from __future__ import annotations

import importlib.util
import inspect
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, UserCodeError, nearest
from devplan.inputs.request import ExampleInputs
from devplan.io import users_code
from devplan.sandbox import CurrentFolderVisible, run_foreign


def user_inputs(reference: str, model: nn.Module, config: Any) -> ExampleInputs:
    """What the user's function gives, with float tensors turned to meta.

    Parameters
    ----------
    reference
        ``path/to/file.py:function``.
    model, config
        Handed to the function where it takes two arguments.

    Raises
    ------
    InputError
        When there is no such file or function, or it gives something else than a mapping.
    UserCodeError
        When the file or the function raises; with the traceback from the user's code on.
    """
    function, path = user_function(reference)
    takes_model = len(inspect.signature(function).parameters) >= 2
    given = (model, config) if takes_model else ()
    result = _own_errors(lambda: function(*given), reference, path)
    if not isinstance(result, Mapping) or not all(isinstance(key, str) for key in result):
        raise InputError(
            f"{reference} gave {type(result).__name__}; return a dict of keyword arguments of "
            "the model, such as {'input_ids': ...}"
        )
    kwargs = {key: _abstract(value) for key, value in result.items()}
    return ExampleInputs(kwargs=kwargs, modalities=(), source="user")


def user_function(reference: str) -> tuple[Callable[..., Any], Path]:
    """The function that ``path/to/file.py:function`` names, and its file.

    Raises
    ------
    InputError
        When there is no such file or function.
    UserCodeError
        When the file raises.
    """
    path, name = _split(reference)
    return _function(_load(path), name, path), path


def _split(reference: str) -> tuple[Path, str]:
    text, colon, name = reference.rpartition(":")
    if not colon or not name.isidentifier() or not text.endswith(".py"):
        raise InputError(f"{reference!r} is not of the form file.py:function")
    path = Path(text)
    if not path.is_file():
        raise InputError(f"{reference}: there is no file {path}; name the file of the function")
    return path, name


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"devplan_user_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _own_errors(lambda: spec.loader.exec_module(module), str(path), path)
    return module


def _function(module: Any, name: str, path: Path) -> Callable[..., Any]:
    found = getattr(module, name, None)
    if not callable(found):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise InputError(f"{path} has no function {name!r}{nearest(name, known)}")
    return found


def _own_errors(call: Callable[[], Any], what: str, path: Path) -> Any:
    try:
        with CurrentFolderVisible(), users_code():
            return run_foreign(call)
    except Exception as error:
        raise UserCodeError(
            f"{what} raised {type(error).__name__}: {' '.join(str(error).split())}",
            traceback_text=_from_user_code(error, path),
        ) from error


def _from_user_code(error: Exception, path: Path) -> str:
    """The traceback as Python prints it, without the frames of devplan in front."""
    frame, path = error.__traceback__, path.resolve()
    while frame is not None and Path(frame.tb_frame.f_code.co_filename).resolve() != path:
        frame = frame.tb_next
    shown = frame or error.__traceback__
    return "".join(traceback.format_exception(type(error), error, shown))


def _abstract(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return torch.empty_like(value, device="meta")
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, Mapping):
        return {key: _abstract(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_abstract(item) for item in value)
    return value
