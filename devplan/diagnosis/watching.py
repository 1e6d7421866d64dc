"""``with devplan.diagnose(model):`` and ``@devplan.diagnose(model)``.

There is nothing to switch on or off: leaving the block by an exception is the only moment at which
anything happens.  An exception of another thread does not pass through a ``with`` of this one;
decorate what the thread runs, or `attach` to the model.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from devplan.core import InputError, Reader, accepts, optional, wrong
from devplan.diagnosis.failure_report import FailureKind
from devplan.mapfile import model_before_map

Function = TypeVar("Function", bound=Callable[..., Any])

EXPLAINED_KINDS = frozenset({FailureKind.MISMATCH, FailureKind.MEMORY, FailureKind.META})
"""What `diagnose` speaks of: tensors on devices that do not go together (a tensor without values is
on the device ``meta``), and memory.  Other exceptions are left as they are."""


class Diagnosis:
    """Tells the report of exceptions that pass through it; made by `diagnose`.

    One may be used again and again, nested, and in several threads at once: it keeps no state but
    the model and the map.
    """

    def __init__(self, model: Any, map: Any = None) -> None:
        if isinstance(map, str | Path) and not Path(map).is_file():
            raise InputError(f"there is no map {map}; check the path")
        self.model = model
        self.map = map

    def __enter__(self) -> Diagnosis:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception):
            self.explain(error)

    def explain(self, error: BaseException) -> None:
        """Add the report to an exception that is on its way, unless it has one or needs none."""
        from devplan.diagnosis.from_exception import add_report

        add_report(error, self.model, self.map, kinds=EXPLAINED_KINDS)

    def __call__(self, function: Function) -> Function:
        """The function, diagnosed: plain, a generator, a coroutine or an async generator."""
        for is_of_kind, wrapped in _WRAPPERS:
            if is_of_kind(function):
                return functools.wraps(function)(wrapped(self, function))
        return functools.wraps(function)(_function(self, function))


def holder_before_map(call: str) -> Reader:
    """The reader of a model, or of any object that holds models, in a function that then takes a
    map; `call` is the right call."""
    refuse_map = model_before_map(call)

    def read(name: str, model: Any) -> Any:
        refuse_map(name, model)
        if model is None or (hasattr(model, "__dict__") and not isinstance(model, type)):
            return model
        raise wrong(name, model, "the loaded model, or an object that holds models")

    return read


def _map(name: str, map: Any) -> Any:
    """A map in any of its forms; it is read when something fails."""
    is_map = isinstance(map, str | os.PathLike | Mapping)
    if is_map or any(hasattr(map, each) for each in ("device_map", "entries", "result")):
        return getattr(map, "checked_map", map)
    raise wrong(name, map, "a map file, a mapping, or what devplan.read_map gave")


@accepts(model=holder_before_map("devplan.diagnose(MODEL, MAP)"), map=optional(_map))
def diagnose(model: Any, map: Any = None) -> Diagnosis:
    """Explain device mismatches and lack of memory where they happen.

    The exception keeps its type, its arguments and its traceback, and gains a note: the op, the
    module and line of the model's code, the tensors with their devices, the entry of the map
    behind it, the memory of each card, and what to do.  Costs nothing until something fails.

    Parameters
    ----------
    model
        A loaded model, or an object that holds models as attributes (a pipeline); None: there is
        none yet, it is being loaded.
    map
        The map that it was loaded with: a file, a mapping or a `DeviceMapFile`; a file's lines are
        named in the report, and its predictions compared.  None: the model's ``hf_device_map``.

    Returns
    -------
    Diagnosis
        A context manager and a decorator.

    Raises
    ------
    InputError
        When the map is a path and there is no such file.

    Examples
    --------
    ::

        with devplan.diagnose(model, "maps/qwen.yaml"):
            model.generate(**inputs)

        @devplan.diagnose(model)
        def answer(question): ...
    """
    return Diagnosis(model, map)


def _function(diagnosis: Diagnosis, function: Callable) -> Callable:
    def diagnosed(*args: Any, **kwargs: Any) -> Any:
        with diagnosis:
            return function(*args, **kwargs)

    return diagnosed


def _generator(diagnosis: Diagnosis, function: Callable) -> Callable:
    def diagnosed(*args: Any, **kwargs: Any) -> Any:
        with diagnosis:
            return (yield from function(*args, **kwargs))

    return diagnosed


def _coroutine(diagnosis: Diagnosis, function: Callable) -> Callable:
    async def diagnosed(*args: Any, **kwargs: Any) -> Any:
        with diagnosis:
            return await function(*args, **kwargs)

    return diagnosed


def _async_generator(diagnosis: Diagnosis, function: Callable) -> Callable:
    """Values pass outwards only: ``asend`` and ``athrow`` reach this wrapper, not the function."""

    async def diagnosed(*args: Any, **kwargs: Any) -> Any:
        with diagnosis:
            async for value in function(*args, **kwargs):
                yield value

    return diagnosed


_WRAPPERS = (
    (inspect.iscoroutinefunction, _coroutine),
    (inspect.isasyncgenfunction, _async_generator),
    (inspect.isgeneratorfunction, _generator),
)
