"""``package.module:callable``: a module that the user's own code builds.

The code runs as it would under ``python -m``: the current folder comes first on ``sys.path``, but
only while the code is imported and called, so that nothing else is ever imported from there.  What
the code raises is shown with its own traceback, cut to the user's frames; what it returns is
checked.  The module must be on the meta device, or devplan would need the memory that it is there
to plan for.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NoReturn

from devplan.core import InputError, UserCodeError, nearest
from devplan.io import users_code
from devplan.models.source import ModelSource
from devplan.sandbox import CurrentFolderVisible

_FACTORY = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)")
# Names that a message shows where none is near.
_MOST_NAMES = 8
# Frames of these files lie between devplan and the user's code, and say nothing to the user.
_OUR_FILES = (os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep,)
_IMPORT_FILES = ("<frozen importlib", importlib.__file__)


def is_factory(model: str) -> bool:
    """Whether MODEL is written as ``package.module:callable``."""
    return _FACTORY.fullmatch(model) is not None


def resolve_factory(model: str) -> ModelSource:
    """Import the user's module and find the callable; it is called when the skeleton is built.

    Raises
    ------
    InputError
        When there is no such module or attribute, or it cannot be called without arguments.
    UserCodeError
        When importing the module raises.
    """
    match = _FACTORY.fullmatch(model)
    assert match is not None, model
    module_name, attribute = match.groups()
    found = _find(_import(module_name), module_name, attribute)
    _require_no_arguments(model, found)
    return ModelSource(
        id=model,
        origin="factory",
        location=None,
        library="transformers",
        factory=Factory(text=model, function=found),
    )


@dataclass(frozen=True, kw_only=True)
class Factory:
    """Calls the user's callable and checks what it returns."""

    text: str
    function: Callable[[], Any]

    def __call__(self) -> Any:
        """The module that the user's code builds, all of its parameters on the meta device.

        Raises
        ------
        InputError
            When it returns no `torch.nn.Module`, or one with parameters elsewhere.
        UserCodeError
            When it raises.
        """
        from torch import nn

        try:
            with CurrentFolderVisible(), users_code():
                module = self.function()
        except (Exception, SystemExit) as error:
            _raise_user_code_error(f"{self.text} raised", error)
        if not isinstance(module, nn.Module):
            raise InputError(
                f"{self.text} returned {_kind(module)}; return a torch.nn.Module on the meta device"
            )
        if not any(True for _ in module.state_dict(keep_vars=True)):
            raise InputError(
                f"{self.text} returned {_kind(module)} without parameters and buffers; there is "
                "nothing to place"
            )
        real = [name for name, value in module.named_parameters() if not value.is_meta]
        if real:
            device = module.get_parameter(real[0]).device
            raise InputError(
                f"{self.text} returned a module with {len(real)} parameters off the meta device "
                f"({real[0]} is on {device}); build it inside `with torch.device('meta'):`"
            )
        return module


def _import(module_name: str) -> ModuleType:
    importlib.invalidate_caches()
    try:
        with CurrentFolderVisible(), users_code():
            return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # `import a.b` that lacks `a` or `a.b` is the user's typing; any other name is their code's.
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise InputError(
                f"there is no module {error.name!r} for {module_name} in {os.getcwd()} or among "
                "the installed packages; run devplan from the folder that holds it, or install it"
            ) from error
        _raise_user_code_error(f"importing {module_name} raised", error)
    except (Exception, SystemExit) as error:
        _raise_user_code_error(f"importing {module_name} raised", error)


def _find(module: ModuleType, module_name: str, attribute: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in dir(found) if not name.startswith("_")]
            where = f" ({module.__file__})" if getattr(module, "__file__", None) else ""
            near = nearest(part, public) or f"; it has {_some(public)}"
            raise InputError(f"{module_name}{where} has no {attribute!r}{near}")
        found = getattr(found, part)
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:_MOST_NAMES]) or "no public names"


def _require_no_arguments(model: str, found: Any) -> None:
    if not callable(found):
        raise InputError(f"{model} is {_kind(found)}; name a function that returns the module")
    try:
        signature = inspect.signature(found)
    except ValueError:  # some callables of C extensions have none
        return
    try:
        signature.bind()
    except TypeError as error:
        raise InputError(
            f"{model}{signature} needs arguments, and devplan calls it without any ({error}); "
            "name a function without arguments that calls it"
        ) from error


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _raise_user_code_error(what: str, error: BaseException) -> NoReturn:
    frame = error.__traceback__
    while frame is not None and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    first = str(error).strip().partition("\n")[0]
    raise UserCodeError(
        f"{what} {type(error).__name__}{f': {first}' if first else ''}", traceback_text=text
    ) from error


def _is_ours(file: str) -> bool:
    return file.startswith(_OUR_FILES + _IMPORT_FILES)
