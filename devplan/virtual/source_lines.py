"""Where in the model's code something happened: the stack, without the libraries that carry it.

Frames of torch, accelerate and devplan say nothing to the user; what remains is the model's own
code, first the line that asked for the op.  Frames of transformers' shared code (caches, masks,
attention) count as the model's: a mismatch may well be there, and the stack says who called.
"""

from __future__ import annotations

import functools
import linecache
import os
import sys
import sysconfig
from types import FrameType

from torch import nn

from devplan.findings import SourceLine

_CARRIERS = ("torch", "accelerate", "devplan", "functorch")
_LIBRARY_FOLDERS = tuple(
    sorted({os.path.realpath(sysconfig.get_paths()[key]) for key in ("purelib", "platlib")})
)
_STANDARD_LIBRARY = os.path.realpath(sysconfig.get_paths()["stdlib"])
_OUR_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_WRAPPERS = (
    os.path.join("transformers", "utils", ""),
    os.path.join("transformers", "integrations", "accelerate.py"),
)
"""Decorators of transformers around every forward."""


@functools.cache
def package_path(filename: str) -> str | None:
    """The path of a code file from its package on; None for files that carry the model's code."""
    if filename.startswith("<"):
        return None
    path = os.path.realpath(filename)
    for folder in _LIBRARY_FOLDERS:
        if path.startswith(folder + os.sep):
            relative = path[len(folder) + 1 :]
            top = relative.split(os.sep)[0].removesuffix(".py")
            carried = top in _CARRIERS or relative.startswith(_WRAPPERS)
            return None if carried else relative.replace(os.sep, "/")
    if path.startswith((_STANDARD_LIBRARY + os.sep, _OUR_FOLDER + os.sep)):
        return None
    here = os.path.realpath(os.getcwd()) + os.sep
    return path[len(here) :] if path.startswith(here) else path


def current_source() -> SourceLine | None:
    """The innermost line of the model's code that is running now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if package_path(frame.f_code.co_filename) is not None:
            return _line_of(frame)
        frame = frame.f_back
    return None


def current_stack(limit: int = 12) -> tuple[SourceLine, ...]:
    """The running lines of the model's code, outermost first; of a deep stack the inner part."""
    found: list[SourceLine] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < limit:
        if package_path(frame.f_code.co_filename) is not None:
            found.append(_line_of(frame))
        frame = frame.f_back
    return tuple(reversed(found))


def stack_of(error: BaseException, limit: int = 12) -> tuple[SourceLine, ...]:
    """Lines of the model's code in an exception's traceback, outermost first."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if package_path(code.co_filename) is not None:
            found.append(_line(code.co_filename, traceback.tb_lineno, code.co_name))
        traceback = traceback.tb_next
    return tuple(found[-limit:])


def current_module() -> nn.Module | None:
    """The innermost module whose ``forward`` or method is running now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            return owner
        frame = frame.f_back
    return None


def _line_of(frame: FrameType) -> SourceLine:
    return _line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


def _line(filename: str, line: int, function: str) -> SourceLine:
    return SourceLine(
        file=package_path(filename) or filename,
        line=line,
        function=function,
        text=linecache.getline(filename, line).strip(),
    )
