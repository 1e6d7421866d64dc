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
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import islice
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import nn

from devplan.core import OperandFact, joined
from devplan.diagnosis.failure_report import FailureKind
from devplan.diagnosis.messages import Recognised
from devplan.diagnosis.sites import Site
from devplan.virtual import native_facts, plain_tensors

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


def expression_tensors(site: Site) -> dict[str, torch.Tensor]:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Operands:
    """What the failing expression worked on."""

    site: Site | None
    """The frame that it is in; the innermost one where no frame has tensors."""
    facts: tuple[OperandFact, ...] = ()


def failing_operands(
    sites: tuple[Site, ...],
    recognised: Recognised,
    names: Mapping[int, str],
    root: nn.Module | None,
) -> Operands:
    """The tensors of the innermost frame that explains the message.

    Of a mismatch that is the innermost whose tensors lie on two devices, the message's own where it
    names them; the first one with tensors where none does.
    """
    first: tuple[Site, dict[str, torch.Tensor]] | None = None
    for site in reversed(sites):
        tensors = {} if site.is_inside_op else expression_tensors(site)
        if not tensors:
            continue
        first = first or (site, tensors)
        if recognised.message.kind is not FailureKind.MISMATCH or _explains(tensors, recognised):
            return Operands(site=site, facts=_facts(tensors, site, names, root))
        if site.is_model_code and id(site.owner) in names:
            break  # further out the line is a call of the module that failed, not the op
    if first is None:
        return Operands(site=sites[-1] if sites else None)
    site, tensors = first
    return Operands(site=site, facts=_facts(tensors, site, names, root))


def _explains(tensors: Mapping[str, torch.Tensor], recognised: Recognised) -> bool:
    devices = {str(tensor.device) for tensor in tensors.values()}
    return len(devices) > 1 and set(recognised.devices) <= devices


def _facts(
    tensors: Mapping[str, torch.Tensor],
    site: Site,
    names: Mapping[int, str],
    root: nn.Module | None,
) -> tuple[OperandFact, ...]:
    known = dict(_named_tensors(root, site, names))
    return tuple(
        OperandFact(
            argument=text,
            device=str(tensor.device),
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            num_bytes=tensor.numel() * tensor.element_size(),
            name=known.get(id(tensor)),
        )
        for text, tensor in tensors.items()
    )


def _named_tensors(
    root: nn.Module | None, site: Site, names: Mapping[int, str]
) -> Iterator[tuple[int, str]]:
    """``id`` -> dotted name of parameters and buffers, and of plain attributes of the owner."""
    prefix = names.get(id(site.owner))
    if site.owner is not None and prefix is not None:
        for path, tensor in plain_tensors(site.owner):
            yield id(tensor), joined(prefix, path)
    if root is None:
        return
    for module in root.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    owner = names.get(id(module), "")
                    yield id(tensor), joined(owner, name)


# PyTorch names the wrapper that noticed the mismatch (``wrapper_CUDA__index_select``); the names of
# the wrappers are facts of ``devplan.virtual.rules``.  If the message names none, the expression is
# read: an index, an operator, or a function that is an op of that name.


_OPERATORS: Mapping[type, str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.FloorDiv: "floor_divide",
    ast.Mod: "remainder",
    ast.Pow: "pow",
    ast.MatMult: "matmul",
    ast.BitAnd: "bitwise_and",
    ast.BitOr: "bitwise_or",
    ast.BitXor: "bitwise_xor",
    ast.Eq: "eq",
    ast.NotEq: "ne",
    ast.Lt: "lt",
    ast.LtE: "le",
    ast.Gt: "gt",
    ast.GtE: "ge",
}
"""Operators of Python that are one op each."""


def op_of_wrapper(wrapper: str) -> str:
    """``aten.index_select`` of ``wrapper_CUDA__index_select``."""
    bare = wrapper.removeprefix("wrapper_").partition("_")[2] if "_" in wrapper else wrapper
    return f"aten.{_by_wrapper().get(bare, bare.strip('_'))}"


@cache
def _by_wrapper() -> dict[str, str]:
    found: dict[str, str] = {}
    for op, wrapper in native_facts().checked.items():
        found.setdefault(wrapper, op)
    return found


def op_of_node(node: ast.AST | None) -> str | None:
    """The op of an expression, where it is one."""
    if isinstance(node, ast.Assign | ast.Return | ast.Expr | ast.AnnAssign) and node.value:
        if isinstance(node, ast.Assign) and _is_stored_item(node.targets[0]):
            return "aten.index_put_"
        return op_of_node(node.value)
    if isinstance(node, ast.Subscript):
        return "aten.index_put_" if isinstance(node.ctx, ast.Store) else "aten.index"
    if isinstance(node, ast.AugAssign | ast.BinOp):
        name = _OPERATORS.get(type(node.op))
        return f"aten.{name}" if name else None
    if isinstance(node, ast.Compare):
        name = _OPERATORS.get(type(node.ops[0]))
        return f"aten.{name}" if name else None
    return _op_of_call(node) if isinstance(node, ast.Call) else None


def _is_stored_item(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript)


def _op_of_call(node: ast.Call) -> str | None:
    import torch

    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return f"aten.{name}" if name and hasattr(torch.ops.aten, name) else None


_LONGEST_CODE = 500
"""Characters; what is longer is no expression of a model's."""


def op_of_text(code: str) -> str | None:
    """The op of a line of code, or of the part of it that failed."""
    if len(code) > _LONGEST_CODE:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code's own style
            statements = ast.parse(code.strip()).body
    # [parts] a line is often a part of a statement, and may be anything that was pasted.
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return None
    return op_of_node(statements[0]) if statements else None
