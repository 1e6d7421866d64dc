"""The op that failed, as PyTorch names it: from the message, or from the expression.

PyTorch names the wrapper that noticed (``wrapper_CUDA__index_select``); the wrappers' names are
facts of ``devplan.virtual.rules``.  Where the message names none, the expression is read: an
index, an operator, or a function that is an op of the same name.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from functools import cache

from devplan.virtual import native_facts

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
