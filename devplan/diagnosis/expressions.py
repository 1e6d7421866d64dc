"""The expression that failed, and the tensors in it.

Python 3.11 and newer know the columns of the instruction that raised, so that of
``x = a[i] + b[j]`` only ``b[j]`` is looked at; before, it is the statement.

Nothing is computed: names, attributes that are plain data, and items of containers are looked up,
operations are not repeated, and properties are not run.  A card that is full or has failed is not
asked for anything.
"""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import nn

from devplan.diagnosis.sites import Site

_ABSENT = object()
_MOST_ITEMS = 8
"""Tensors of a list that are looked at."""


def failing_node(traceback: TracebackType) -> ast.AST | None:
    """The syntax of what raised; None where there is no source."""
    tree = _tree(traceback.tb_frame.f_code.co_filename)
    if tree is None:
        return None
    span = _span(traceback)
    if span is not None:
        exact = (node for node in _nodes(tree) if _place(node) == span)
        found = next(exact, None)
        if found is not None:
            return found
    line = traceback.tb_lineno
    around = [n for n in _nodes(tree) if isinstance(n, ast.stmt) and _covers(n, line)]
    return max(around, key=lambda node: node.lineno, default=None)


@lru_cache(maxsize=16)
def _tree(filename: str) -> ast.Module | None:
    try:
        return ast.parse("".join(linecache.getlines(filename)))
    except (SyntaxError, ValueError):
        return None


def _nodes(tree: ast.Module) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if hasattr(node, "lineno"))


def _place(node: ast.AST) -> tuple[Any, ...]:
    return (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


def _covers(node: ast.stmt, line: int) -> bool:
    return node.lineno <= line <= (node.end_lineno or node.lineno)


def _span(traceback: TracebackType) -> tuple[int | None, ...] | None:
    positions = getattr(traceback.tb_frame.f_code, "co_positions", None)
    if positions is None or traceback.tb_lasti < 0:
        return None
    # [two bytes] a unit of bytecode; tb_lasti counts bytes.
    span = next(islice(positions(), traceback.tb_lasti // 2, None), None)
    return None if span is None or None in span else span


def tensors_in(site: Site) -> dict[str, torch.Tensor]:
    """The tensors of the failing expression by their text: ``{"self.weight": ...}``."""
    node = failing_node(site.traceback)
    if node is None:
        return {}
    frame = site.traceback.tb_frame
    found: dict[str, torch.Tensor] = {}
    _collect(node, {**frame.f_globals, **frame.f_locals}, found)
    return found


def _collect(node: ast.AST, names: Mapping[str, Any], found: dict[str, torch.Tensor]) -> None:
    if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        value = _look_up(node, names)
        if value is not _ABSENT and not isinstance(value, ModuleType):
            found.update(islice(_tensors(value, ast.unparse(node)), _MOST_ITEMS))
            return
    for child in _children(node):
        _collect(child, names, found)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Parts that were evaluated: of a statement with a body only its head."""
    bodies = {"body", "orelse", "finalbody", "handlers", "decorator_list"}
    is_statement = isinstance(node, ast.stmt)
    for name, value in ast.iter_fields(node):
        if is_statement and name in bodies:
            continue
        yield from (v for v in (value if isinstance(value, list) else [value]) if _is_node(v))


def _is_node(value: Any) -> bool:
    return isinstance(value, ast.AST)


def _tensors(value: Any, text: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The value itself, or the tensors that it holds directly."""
    if isinstance(value, torch.Tensor):
        yield text, value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if isinstance(item, torch.Tensor):
                yield f"{text}[{index}]", item
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, torch.Tensor):
                yield f"{text}[{key!r}]", item


def _look_up(node: ast.AST, names: Mapping[str, Any]) -> Any:
    """What a plain name, attribute or item is now."""
    if isinstance(node, ast.Name):
        return names.get(node.id, _ABSENT)
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Attribute):
        return _attribute(_look_up(node.value, names), node.attr)
    if isinstance(node, ast.Subscript):
        return _item(_look_up(node.value, names), _look_up(node.slice, names))
    return _ABSENT


def _attribute(value: Any, name: str) -> Any:
    """An attribute that is plain data."""
    if value is _ABSENT or isinstance(value, torch.Tensor | ModuleType):
        return _ABSENT
    if isinstance(value, nn.Module):
        for kind in (value._parameters, value._buffers, value._modules):
            if name in kind:
                return kind[name]
    return getattr(value, "__dict__", {}).get(name, _ABSENT)


def _item(value: Any, key: Any) -> Any:
    """An item of a container; items of tensors are operations."""
    if value is _ABSENT or key is _ABSENT or not isinstance(value, list | tuple | dict):
        return _ABSENT
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return _ABSENT
