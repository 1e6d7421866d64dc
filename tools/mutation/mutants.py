"""Every mistake that can be made in the code, and the sample of them that a seed draws."""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice, zip_longest
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import MutationVisitor
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from tools.mutation.operators import OWN

PARTS = (
    "devplan/planning",
    "devplan/virtual",
    "devplan/profile",
    "devplan/rules",
    "devplan/checker",
    "devplan/loader",
    "devplan/mapfile",
    "devplan/workflows",
)
# Of Cosmic Ray's 205 operators those that make a mistake which somebody could make: the neighbour
# or the opposite of a comparison and the opposite of an operation, not every other one.
_TAKEN = (
    "AddNot",
    "NumberReplacer",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ReplaceFalseWithTrue",
    "ReplaceTrueWithFalse",
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    "ZeroIterationForLoop",
    *(f"ReplaceBinaryOperator_{one}" for one in ("Add_Sub", "Sub_Add", "Mul_FloorDiv")),
    *(f"ReplaceBinaryOperator_{one}" for one in ("FloorDiv_Mul", "Div_Mul", "Mod_FloorDiv")),
    *(f"ReplaceBinaryOperator_{one}" for one in ("BitOr_BitAnd", "BitAnd_BitOr", "Pow_Mul")),
    *(f"ReplaceComparisonOperator_{one}" for one in ("Eq_NotEq", "NotEq_Eq", "Is_IsNot")),
    *(f"ReplaceComparisonOperator_{one}" for one in ("IsNot_Is", "Lt_LtE", "Lt_GtE", "LtE_Lt")),
    *(f"ReplaceComparisonOperator_{one}" for one in ("LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt")),
    "ReplaceComparisonOperator_GtE_Lt",
)
# Outside of functions most is declarations.
_IN_CONSTANTS = ("NumberReplacer",)

Place = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One mistake."""

    path: str
    """Of the file, from the root of the project."""
    operator: str
    occurrence: int
    place: Place
    function: str
    """Dotted name inside the file; empty outside of functions."""

    @property
    def name(self) -> str:
        return (
            f"{self.path}:{self.place[0][0]}:{self.place[0][1]} {self.operator}#{self.occurrence}"
        )


@cache
def operators() -> dict[str, Operator]:
    """Name -> operator."""
    provided = OperatorProvider()
    return {name: provided[name]() for name in _TAKEN} | {
        operator.__name__: operator() for operator in OWN
    }


def mutants_of(root: Path, path: str) -> list[Mutant]:
    """Every mistake that can be made in a file."""
    source = (root / path).read_text(encoding="utf-8")
    nodes = list(ast_nodes(get_ast(source)))
    functions, aside = _functions(source), _aside(source)
    found = []
    for name, operator in operators().items():
        places = [place for node in nodes for place in operator.mutation_positions(node)]
        for occurrence, place in enumerate(places):
            function = _innermost(functions, place[0][0])
            told = function or name in _IN_CONSTANTS
            if told and not any(start <= place[0] < end for start, end in aside):
                found.append(
                    Mutant(
                        path=path,
                        operator=name,
                        occurrence=occurrence,
                        place=place,
                        function=function,
                    )
                )
    return found


def mutated(root: Path, mutant: Mutant) -> str | None:
    """The file with the mistake in it; None where it is the same code, or none at all."""
    source = (root / mutant.path).read_text(encoding="utf-8")
    operator = operators()[mutant.operator]
    try:
        changed = MutationVisitor.mutate_code(source, operator, mutant.occurrence)
        same = changed is None or ast.dump(ast.parse(changed)) == ast.dump(ast.parse(source))
    except SyntaxError:
        return None
    return None if same else changed


def sample(root: Path, parts: tuple[str, ...], size: int, seed: int) -> list[Mutant]:
    """As many mistakes of every part, each in a place of its own.

    A place is drawn before the mistake that is made there: a comparison can be replaced by seven
    others and would otherwise be drawn seven times as often as a lost answer.
    """
    drawn = [_drawn(root, part, random.Random(f"{seed} {part}")) for part in parts]
    in_turn = (mutant for row in zip_longest(*drawn) for mutant in row if mutant is not None)
    return list(islice(in_turn, size))


def _drawn(root: Path, part: str, chance: random.Random) -> Iterator[Mutant]:
    """The mistakes of a part in an order that chance decides."""
    left = {path: len((root / path).read_bytes()) for path in files_of(root, part)}
    places: dict[str, list[list[Mutant]]] = {}
    while left:
        (path,) = chance.choices(list(left), list(left.values()))
        if path not in places:
            by_place: dict[Place, list[Mutant]] = defaultdict(list)
            for mutant in mutants_of(root, path):
                by_place[mutant.place].append(mutant)
            places[path] = list(by_place.values())
        if not places[path]:
            del left[path]
            continue
        mutant = chance.choice(places[path].pop(chance.randrange(len(places[path]))))
        if mutated(root, mutant) is not None:
            yield mutant


def files_of(root: Path, part: str) -> list[str]:
    """The Python files of a part, which is a folder or a file."""
    where = root / part
    found = [where] if where.is_file() else where.rglob("*.py")
    return sorted(path.relative_to(root).as_posix() for path in found)


def _functions(source: str) -> list[tuple[int, int, str]]:
    """(first line, last line, dotted name) of every function, outer ones first."""
    found = []

    def walk(node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*names, child.name)
                if not isinstance(child, ast.ClassDef):
                    found.append((child.lineno, child.end_lineno, ".".join(inner)))
                walk(child, inner)
            else:
                walk(child, names)

    walk(ast.parse(source), ())
    return found


def _innermost(functions: list[tuple[int, int, str]], line: int) -> str:
    return next((n for first, last, n in reversed(functions) if first <= line <= last), "")


def _aside(source: str) -> list[Place]:
    """Places where a change is no mistake: annotations and imports."""
    nodes: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            nodes.append(node.returns)
        elif isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            nodes.append(node)
    return [
        ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset))
        for node in nodes
        if node is not None
    ]
