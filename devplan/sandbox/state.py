"""Switches of the process and of this thread that a run, or what it calls, may leave turned.

Each has a context of its own that turns it back.  Where an exception strikes in the middle of one,
of ours or of a library's, the state that was read before is put back.
"""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _device, _python_dispatch


class ProcessState:
    """What the switches are now; `restore` turns those back that are otherwise."""

    def __init__(self) -> None:
        self._values = {name: read() for name, (read, _) in _SWITCHES.items()}

    def restore(self) -> None:
        """Put everything back."""
        for name, (read, write) in _SWITCHES.items():
            if read() != self._values[name]:
                write(self._values[name])

    def differing(self) -> list[str]:
        """Switches that are otherwise now."""
        return [name for name, (read, _) in _SWITCHES.items() if read() != self._values[name]]


def set_environment(variables: dict[str, str]) -> None:
    """Let the variables of the environment be these, whatever was set or removed since."""
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _set_frozen(frozen: bool) -> None:
    gc.freeze() if frozen else gc.unfreeze()


def _verbosity(package: str) -> int | None:
    """Level of a package's own logger; None where nobody imported it."""
    # [lock] `logging.getLogger` waits for whoever is inside `logging`; looking it up does not.
    return getattr(logging.root.manager.loggerDict.get(package), "level", None)


def _set_verbosity(package: str, level: int | None) -> None:
    if level is not None:
        logging.getLogger(package).setLevel(level)


def _function_modes() -> list[Any]:
    from torch.overrides import _get_current_function_mode_stack

    return list(_get_current_function_mode_stack())


def _set_function_modes(modes: list[Any]) -> None:
    from torch.overrides import _pop_mode, _push_mode

    for _ in range(len(_function_modes())):
        _pop_mode()
    for mode in modes:
        _push_mode(mode)


def _dispatch_modes() -> list[Any]:
    return list(_python_dispatch._get_current_dispatch_mode_stack())


def _set_dispatch_modes(modes: list[Any]) -> None:
    for _ in range(len(_dispatch_modes())):
        _python_dispatch._pop_mode()
    for mode in modes:
        _python_dispatch._push_mode(mode)


def _set_filters(filters: list[Any]) -> None:
    warnings.filters[:] = filters
    getattr(warnings, "_filters_mutated", lambda: None)()


def _inits() -> dict[str, Any]:
    """Functions of ``torch.nn.init``, which transformers replaces while it builds a model."""
    return {n: v for n, v in vars(torch.nn.init).items() if n.endswith("_") and callable(v)}


def _set_inits(functions: dict[str, Any]) -> None:
    vars(torch.nn.init).update(functions)


def _set_device(device: Any) -> None:
    _device.CURRENT_DEVICE = device


_SWITCHES: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "function modes": (_function_modes, _set_function_modes),
    "dispatch modes": (_dispatch_modes, _set_dispatch_modes),
    "default device": (lambda: _device.CURRENT_DEVICE, _set_device),
    "default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "grad mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "threads": (torch.get_num_threads, torch.set_num_threads),
    "environment": (lambda: dict(os.environ), set_environment),
    "frozen garbage": (lambda: gc.get_freeze_count() > 0, _set_frozen),
    "silence": (lambda: logging.root.manager.disable, logging.disable),
    "warnings": (lambda: list(warnings.filters), _set_filters),
    "showwarning": (
        lambda: warnings.showwarning,
        lambda show: setattr(warnings, "showwarning", show),
    ),
    "transformers": (
        lambda: _verbosity("transformers"),
        lambda level: _set_verbosity("transformers", level),
    ),
    "diffusers": (
        lambda: _verbosity("diffusers"),
        lambda level: _set_verbosity("diffusers", level),
    ),
    "torch.nn.init": (_inits, _set_inits),
}
