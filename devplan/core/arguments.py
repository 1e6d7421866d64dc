"""What Python callers hand over: a value of a wrong kind is one sentence, wherever it is given.

A public function says how each of its arguments is read::

    @accepts(model=model_name, machine=as_machine, trust_remote_code=flag)
    def suggest(model, machine, ...):

A *reader* takes the argument's name and value, and gives the value that the function works with or
raises `InputError`.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import operator
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from devplan.core.errors import InputError

Reader = Callable[[str, Any], Any]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class NamedInFile:
    """A model as a file names it.  It is no text on purpose: what a file says is data, and only
    text that a person typed or passed may name code (`devplan.models.resolve`)."""

    text: str
    file: str
    """For people: the map, or the settings with the line."""
    folder: Path | None = None
    """Where relative paths are looked up after the current folder; None: nowhere else."""
    typed_after: str = "--model"
    """What a person types before a model of their own choice."""

    def __str__(self) -> str:
        return self.text


_SHOWN_KINDS = (str, int, float)
_LONGEST_SHOWN = 60


def accepts(**readers: Reader) -> Callable[[Function], Function]:
    """Read the arguments of a function by name before it is called."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}: {error}") from None
            for name, value in bound.arguments.items():
                if name in readers:
                    bound.arguments[name] = readers[name](name, value)
            return function(*bound.args, **bound.kwargs)

        return called

    return decorate


def wrong(name: str, value: Any, accepted: str) -> InputError:
    """The error for a value of a wrong kind; `accepted` follows the word "give"."""
    return InputError(f"{name} is {described(value)}; give {accepted}")


def described(value: Any) -> str:
    """A value in few words, on one line: its text where that is short, else what it is."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, type):
        return f"the class {value.__name__}"
    kind = type(value).__name__
    article = "an" if kind[0].lower() in "aeiou" else "a"
    if type(value) in _SHOWN_KINDS:
        shown = repr(value[:_LONGEST_SHOWN]) if isinstance(value, str) else _number(value)
        return f"{shown}, {article} {kind}" if value != "" else "empty text"
    if isinstance(value, list | tuple | dict | set) and not value:
        return f"an empty {kind}"
    return f"{article} {kind}"


def _number(value: float) -> str:
    """Python refuses to write integers of thousands of digits."""
    is_long = isinstance(value, int) and value.bit_length() > 200
    return "a number of many digits" if is_long else repr(value)


# ------------------------------------------------------------------------------------ readers


def optional(read: Reader) -> Reader:
    """None stays None."""
    return lambda name, value: None if value is None else read(name, value)


def flag(name: str, value: Any) -> bool:
    """True or False: text such as "no" would be true."""
    if isinstance(value, bool):
        return value
    raise wrong(name, value, "True or False")


def text(accepted: str, *, empty: bool = False) -> Reader:
    """Text; `empty`: whether the function itself says what is wrong with text that is empty."""

    def read(name: str, value: Any) -> str:
        if isinstance(value, str) and (empty or value.strip()):
            return value
        raise wrong(name, value, accepted)

    return read


def path(accepted: str) -> Reader:
    """Text or a path that is not empty."""

    def read(name: str, value: Any) -> str | os.PathLike:
        as_text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
        if isinstance(as_text, str) and as_text.strip():
            return value
        raise wrong(name, value, accepted)

    return read


def one_of(*known: str) -> Reader:
    """One of a few words."""

    def read(name: str, value: Any) -> str:
        if isinstance(value, str) and value in known:
            return value
        raise wrong(name, value, f"{', '.join(known[:-1])} or {known[-1]}")

    return read


def whole_number(least: int, most: int) -> Reader:
    """A whole number of any integer type, numpy's among them."""

    def read(name: str, value: Any) -> int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            number = operator.index(value)
            if least <= number <= most:
                return number
        raise wrong(name, value, f"a whole number from {least:,} to {most:,}")

    return read


def of_class(accepted: str, *classes: type) -> Reader:
    """An object of one of the classes."""

    def read(name: str, value: Any) -> Any:
        if isinstance(value, classes):
            return value
        raise wrong(name, value, accepted)

    return read


def mapping(accepted: str) -> Reader:
    """A mapping whose keys are text."""

    def read(name: str, value: Any) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            raise wrong(name, value, accepted)
        for key in value:
            if not isinstance(key, str):
                raise InputError(f"{name} holds the key {described(key)}; give {accepted}")
        return value

    return read


def texts(accepted: str) -> Reader:
    """Several texts; one alone is a list of one."""

    def read(name: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            value = (value,)
        if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
            raise wrong(name, value, accepted)
        found = tuple(value)
        for each in found:
            if not isinstance(each, str):
                raise InputError(f"{name} holds {described(each)}; give {accepted}")
        return found

    return read


def function(name: str, value: Any) -> Callable[..., Any]:
    """Something that can be called."""
    if callable(value):
        return value
    raise wrong(name, value, "a function")


_named = path("a name of the catalogue, a folder, a hub id or package.module:factory as text")


def model_name(name: str, value: Any) -> Any:
    """MODEL of the functions that build it themselves."""
    return value if isinstance(value, NamedInFile) else _named(name, value)


user_function = text("FILE.py:FUNCTION as text")
