"""Where classes of other libraries are built from values of a file: what they raise is one line.

A class that is given values it was not written for raises whatever its code comes to: of a
library's own kind, a TypeError, an OverflowError, a RecursionError, no memory.  Each means that the
file does not fit the class, and none is a mistake of devplan's.  Only the call into the library
stands inside `of_the_library`: what devplan does with the result is its own matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from devplan.core import DevplanError, InputError
from devplan.models.integers import RememberIntegers

MOST_CALLS = 500_000
"""Tensors that are made or filled while one model is built: three or so for each tensor that it
keeps.  The largest that are known, with 100,000 tensors, need 300,000."""


@contextlib.contextmanager
def of_the_library(said: str, remedy: str = "correct its config.json") -> Iterator[None]:
    """Turn what another library raises inside into one line: `said`, the error, `remedy`.

    Raises
    ------
    InputError
        For every exception that is not devplan's own.
    """
    try:
        yield
    except DevplanError:
        raise
    except ImportError as error:
        raise InputError(f"{said}: {one_line(error)}") from error
    except BaseException as error:
        if not is_of_a_library(error):
            raise
        raise InputError(f"{said} ({type(error).__name__}: {one_line(error)}); {remedy}") from error


def is_of_a_library(error: BaseException) -> bool:
    """Whether a library raised it, and neither the user nor a limit of time ended what ran.

    [panic] Libraries in Rust (tokenizers, safetensors) raise what is no Exception when they panic.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def one_line(error: BaseException) -> str:
    """The text of an error, short enough for a message."""
    return " ".join(str(error)[:1200].split())[:300]


class CountedBuilding(RememberIntegers):
    """Stops a class that makes tensors without end."""

    def __init__(self, id: str) -> None:
        super().__init__()
        self.id = id
        self.calls = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None):
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise InputError(
                f"{self.id}: building it makes more than {MOST_CALLS:,} tensors, which is more "
                "than devplan builds; correct the number of layers or experts in its config.json"
            )
        return super().__torch_function__(func, types, args, kwargs)
