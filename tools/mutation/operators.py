"""Mistakes beside those of Cosmic Ray, as operators of its kind (they change one node of a tree).

Each is one that a person makes: the wrong extreme, the wrong quantifier, half of a condition, a
branch that is never or always taken, an answer that is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso
from cosmic_ray.operators.operator import Example, Operator
from parso.python.tree import IfStmt, Name, PythonNode, ReturnStmt, WhileStmt

_Node = Any
_Span = tuple[tuple[int, int], tuple[int, int]]
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ASSIGNED = {"+=": "-=", "-=": "+=", "*=": "+=", "|=": "&=", "&=": "|="}


class _Replacement(Operator):
    """An operator that replaces whole nodes by other code."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        """(node inside this one, code in its place), one each mistake."""
        raise NotImplementedError

    def mutation_positions(self, node: _Node) -> Iterator[_Span]:
        for inner, _ in self.replacements(node):
            yield inner.start_pos, inner.end_pos

    def mutate(self, node: _Node, index: int) -> _Node:
        inner, code = list(self.replacements(node))[index]
        leaf = parso.parse(inner.get_first_leaf().prefix + code)
        if inner is node:
            return leaf
        node.children[node.children.index(inner)] = leaf
        return node

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        return ()


class SwapExtremeOrQuantifier(_Replacement):
    """``min`` and ``max``, ``any`` and ``all``."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if isinstance(node, Name) and node.value in _SWAPPED and _is_called(node):
            yield node, _SWAPPED[node.value]


def _is_called(name: Name) -> bool:
    after = name.get_next_leaf()
    before = name.get_previous_leaf()
    return after is not None and after.value == "(" and (before is None or before.value != ".")


class SwapMembership(_Replacement):
    """``in`` and ``not in``."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if node.type == "comparison":
            for word in node.children[1::2]:
                said = " ".join(word.get_code().split())
                if said in ("in", "not in"):
                    yield word, "not in" if said == "in" else "in"


class SwapAssignment(_Replacement):
    """``+=`` and ``-=``."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if getattr(node, "value", None) in _ASSIGNED:
            yield node, _ASSIGNED[node.value]


class HalfOfACondition(_Replacement):
    """``a and b`` without one of the two."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if node.type in ("and_test", "or_test"):
            for position, part in enumerate(node.children[::2]):
                left = [other for i, other in enumerate(node.children[::2]) if i != position]
                word = f" {node.children[1].value} "
                yield node, word.join(other.get_code().strip() for other in left)
                del part


class ForcedBranch(_Replacement):
    """A branch that is always or never taken."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if isinstance(node, IfStmt) or (isinstance(node, PythonNode) and node.type == "test"):
            condition = node.children[1] if isinstance(node, IfStmt) else node.children[2]
            yield condition, "True"
            yield condition, "False"
        elif isinstance(node, WhileStmt):
            yield node.children[1], "False"


class LostAnswer(_Replacement):
    """``return None`` in the place of an answer; to a caller, False is hardly another one."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if isinstance(node, ReturnStmt):
            answer = node.children[1].get_code().strip()
            if answer not in ("None", "False"):
                yield node.children[1], "None"


class LostStatement(_Replacement):
    """``continue``, ``break``, ``raise`` and calls for their effect, left out."""

    def replacements(self, node: _Node) -> Iterator[tuple[_Node, str]]:
        if (
            node.type in ("continue_stmt", "break_stmt", "raise_stmt")
            or (node.type == "keyword" and node.value in ("continue", "break"))
            or (node.type == "atom_expr" and node.parent.type == "simple_stmt")
        ):
            yield node, "pass"


OWN = (
    SwapExtremeOrQuantifier,
    SwapMembership,
    SwapAssignment,
    HalfOfACondition,
    ForcedBranch,
    LostAnswer,
    LostStatement,
)
