"""Where in the model's code something happened: the stack, without the libraries that carry it.

Frames of torch, accelerate and devplan say nothing to the user; what remains is the model's own
code, first the line that asked for the op.  Frames of transformers' shared code (caches, masks,
attention) count as the model's: a mismatch may well be there, and the stack says who called.
"""

from __future__ import annotations

import functools
import linecache
import os
import re
import sys
from collections.abc import Iterator
from types import CodeType, FrameType

from torch import nn

from devplan.core import InternalError, ModelError, SourceLine, one_line

_CARRIERS = frozenset({"torch", "accelerate", "devplan", "functorch", *sys.stdlib_module_names})
_WRAPPERS = ("transformers.utils.", "transformers.integrations.accelerate")
"""Modules of transformers whose decorators wrap every forward."""
_HOOKS = "accelerate/hooks.py"
_AROUND = frozenset({"pre_forward", "post_forward"})
_INSTALLED = re.compile(r".*[\\/](?:site|dist)-packages[\\/]")


def is_model_code(frame: FrameType) -> bool:
    """Whether a frame runs the model's code, and not the code that carries it."""
    return not carries(frame.f_globals.get("__name__") or "")


def carries(module: str) -> bool:
    """Whether code of a module of that dotted name carries models and belongs to none."""
    return module.partition(".")[0] in _CARRIERS or module.startswith(_WRAPPERS)


@functools.cache
def shown_path(filename: str) -> str:
    """The path of a code file from its package on, or from the current folder."""
    installed = _INSTALLED.match(filename)
    if installed:
        return filename[installed.end() :].replace("\\", "/")
    here = os.getcwd() + os.sep
    return filename[len(here) :] if filename.startswith(here) else filename


def current_source() -> SourceLine | None:
    """The innermost line of the model's code that is running now."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if is_model_code(frame):
            return _line_of(frame)
        frame = frame.f_back
    return None


def current_stack(limit: int = 12) -> tuple[SourceLine, ...]:
    """The running lines of the model's code, outermost first; of a deep stack the inner part."""
    found: list[SourceLine] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and len(found) < limit:
        if is_model_code(frame):
            found.append(_line_of(frame))
        frame = frame.f_back
    return tuple(reversed(found))


def stack_of(error: BaseException, limit: int = 12) -> tuple[SourceLine, ...]:
    """Lines of the model's code in an exception's traceback, outermost first."""
    found = []
    traceback = error.__traceback__
    while traceback is not None:
        if is_model_code(traceback.tb_frame):
            found.append(_line(traceback.tb_frame.f_code, traceback.tb_lineno))
        traceback = traceback.tb_next
    return tuple(found[-limit:])


def model_error(error: BaseException, phase: str) -> ModelError:
    """An exception of the model's own code, with its place."""
    stack = stack_of(error)
    return ModelError(
        type=type(error).__name__,
        message=one_line(error, 500),
        source=stack[-1] if stack else None,
        stack=stack,
        phase=phase,
    )


_SLIPS = (NameError, AttributeError, KeyError, ImportError, AssertionError, InternalError)
"""What devplan's code never raises on purpose, nor an op of torch that it calls."""


def is_devplans(error: BaseException) -> bool:
    """Whether an exception in a run is a mistake of devplan's, and none of the model's code."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None or not isinstance(error, _SLIPS):
        return False
    module = traceback.tb_frame.f_globals.get("__name__") or ""
    return module.partition(".")[0] == "devplan"


def current_module() -> nn.Module | None:
    """The innermost module whose ``forward`` or method is running now.

    What a hook of accelerate's does before or after a module runs belongs to the code that calls
    the module.
    """
    by_hook = False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if by_hook and is_model_code(frame):
            by_hook = False
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module) and not by_hook:
            return owner
        by_hook = by_hook or (frame.f_code.co_name in _AROUND and is_hook_code(frame))
        frame = frame.f_back
    return None


def is_hook_code(frame: FrameType) -> bool:
    """Whether a frame runs accelerate's hooks."""
    return frame.f_code.co_filename.replace("\\", "/").endswith(_HOOKS)


def modules_on_stack() -> Iterator[nn.Module]:
    """Modules whose ``forward`` or methods are running now, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, nn.Module):
            yield owner
        frame = frame.f_back


def _line_of(frame: FrameType) -> SourceLine:
    return _line(frame.f_code, frame.f_lineno)


def _line(code: CodeType, line: int) -> SourceLine:
    return SourceLine(
        file=shown_path(code.co_filename),
        line=line,
        function=code.co_name,
        text=linecache.getline(code.co_filename, line).strip(),
    )
