"""Frames of a pasted traceback as lines of the model's code, and the classes that they are in.

The text was printed on another machine, with another release perhaps.  A line is known again in the
installed source by its number and text, else by its text in a function of the same name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from devplan.core import SourceLine, is_inside
from devplan.diagnosis.pasted.errors import PastedFrame
from devplan.virtual import carries, shown_path

_SITE = Path(torch.__file__).parents[1]
_STANDARD = re.compile(
    r".*[\\/]lib(?:64)?[\\/](?:python3\.\d+[\\/])?(?!site-packages|dist-packages)"
)
_REMOTE = re.compile(r".*[\\/](?=transformers_modules[\\/])")


@dataclass(frozen=True, kw_only=True)
class CodePlace:
    """A frame, and where that is in the installed source."""

    source: SourceLine
    classes: tuple[str, ...] = ()
    """The classes whose code it may be."""
    same_release: bool | None = None
    """Whether the line stands there under its number; None: the file is not installed."""


@lru_cache(maxsize=4096)
def source_line(frame: PastedFrame) -> SourceLine:
    """The frame's line, its file from the package on."""
    file = _REMOTE.sub("", frame.file) if _REMOTE.match(frame.file) else shown_path(frame.file)
    return SourceLine(
        file=file.replace("\\", "/"), line=frame.line, function=frame.function, text=frame.text
    )


@lru_cache(maxsize=4096)
def is_model_line(frame: PastedFrame) -> bool:
    """Whether a frame is of the model's code, and not of the code that carries it."""
    shown = source_line(frame).file
    if re.match(r"^(?:Cell|Input|<ipython|<)", shown):
        return True
    if shown == frame.file.replace("\\", "/") and _STANDARD.match(frame.file):
        shown = _STANDARD.sub("", frame.file).replace("\\", "/")
    return not carries(shown.removesuffix(".py").replace("/", "."))


@lru_cache(maxsize=4096)
def code_place(frame: PastedFrame) -> CodePlace:
    """Where a frame is in the installed source."""
    source = source_line(frame)
    path = _SITE / source.file
    if not _is_installed(source.file, path):
        return CodePlace(source=source, classes=(frame.class_name,) if frame.class_name else ())
    lines, methods = _parsed(str(path))
    is_there = source.line <= len(lines) and lines[source.line - 1].strip() == source.text
    same = bool(source.text) and is_there
    if frame.class_name:
        return CodePlace(source=source, classes=(frame.class_name,), same_release=same)
    found = tuple(_classes(source, lines, methods, same))
    return CodePlace(source=source, classes=tuple(dict.fromkeys(found)), same_release=same)


def _is_installed(file: str, path: Path) -> bool:
    if ".." in file or not file.endswith(".py"):
        return False
    try:
        return path.is_file()
    except (OSError, ValueError):  # longer than a file system takes, or no name at all
        return False


@dataclass(frozen=True, kw_only=True)
class _Method:
    class_name: str
    name: str
    first: int
    last: int


def _classes(
    source: SourceLine, lines: list[str], methods: tuple[_Method, ...], same: bool
) -> Iterator[str]:
    for method in methods:
        if method.name != source.function:
            continue
        if same:
            if method.first <= source.line <= method.last:
                yield method.class_name
        elif source.text and any(
            line.strip() == source.text for line in lines[method.first - 1 : method.last]
        ):
            yield method.class_name


@lru_cache(maxsize=32)
def _parsed(path: str) -> tuple[list[str], tuple[_Method, ...]]:
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return text.splitlines(), ()
    return text.splitlines(), tuple(_methods(tree))


def _methods(tree: ast.Module) -> Iterator[_Method]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield _Method(
                        class_name=node.name,
                        name=item.name,
                        first=item.lineno,
                        last=item.end_lineno or item.lineno,
                    )


# A frame names a class, and a model has a class at several places.  The frames around it narrow
# them down: code called by ``LlamaDecoderLayer.forward`` runs inside a module of that class.


def modules_of(places: Sequence[CodePlace], model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that the innermost frame may have been in; empty: none is known."""
    by_class = _by_class(model)
    within: list[str] = [""]
    found: list[str] = []
    for place in places:
        named = [name for kind in place.classes for name in by_class.get(kind, ())]
        inside = [name for name in named if _is_inside_any(name, within)]
        if inside:
            within = found = inside
    return tuple(found)


def _by_class(model: nn.Module) -> dict[str, list[str]]:
    """Class, or a class that it derives from -> names of modules."""
    found: dict[str, list[str]] = {}
    for name, module in model.named_modules():
        for kind in type(module).__mro__:
            if kind is nn.Module:
                break
            found.setdefault(kind.__name__, []).append(name)
    return found


def _is_inside_any(name: str, within: Iterable[str]) -> bool:
    return any(is_inside(name, outer) for outer in within)
