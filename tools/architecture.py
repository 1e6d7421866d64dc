"""The structure of the package, read off its imports: ``make architecture``.

Writes the diagram and the table of the subpackages into ``docs/design.md``.  The tests of the
architecture ask the same functions.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "devplan"
PAGE = ROOT / "docs" / "design.md"

LAYERS = (
    ("core",),
    ("io", "sandbox", "catalog"),
    ("machine", "models"),
    ("planning", "mapfile", "virtual"),
    ("environment", "inputs"),
    ("profile", "rules"),
    ("checker",),
    ("runtime", "diagnosis"),
    ("loader", "workflows"),
    ("report",),
    ("cli",),
)
"""A subpackage imports from the layers before its own, and nothing of its own layer or after it."""

_BEGIN, _END = "<!-- begin: make architecture -->", "<!-- end: make architecture -->"


@dataclass(frozen=True, kw_only=True)
class Import:
    """A name that a file takes from devplan: ``from devplan.core import InputError``."""

    path: Path
    line: int
    module: str
    name: str

    @property
    def subpackage(self) -> str | None:
        """The subpackage that is imported from; None for the root."""
        parts = self.module.split(".")
        return parts[1] if len(parts) > 1 else None


def files() -> tuple[Path, ...]:
    """Every module of the package, in order."""
    return tuple(sorted(PACKAGE.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    """The parsed text of a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def subpackage_of(path: Path) -> str | None:
    """``devplan/virtual/rules/rule.py`` is in ``virtual``; a module of the root is in None."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else None


def module_of(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def subpackages() -> tuple[str, ...]:
    """The names of the subpackages, lowest layer first."""
    return tuple(name for layer in LAYERS for name in layer)


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """What a file takes from devplan, wherever in it an import stands."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names = [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.name) for alias in node.names]
        else:
            continue
        found += [
            Import(path=path, line=node.lineno, module=module, name=name)
            for module, name in names
            if module.split(".")[0] == "devplan"
        ]
    return tuple(found)


def crossings() -> Iterator[tuple[str, str, Import]]:
    """Every import from one subpackage into another: who imports, from whom, and what."""
    for path in files():
        here = subpackage_of(path)
        for taken in imports_of(path):
            if here and taken.subpackage and taken.subpackage != here:
                yield here, taken.subpackage, taken


def exports() -> Mapping[str, set[str]]:
    """The names that each subpackage's ``__init__`` hands out."""
    found = {}
    for name in subpackages():
        stub = PACKAGE / name / "__init__.pyi"
        path = stub if stub.is_file() else PACKAGE / name / "__init__.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
    return found


def graph() -> nx.DiGraph:
    """Subpackages, with an edge from each to those that it imports."""
    edges = nx.DiGraph()
    edges.add_nodes_from(subpackages())
    edges.add_edges_from((here, there) for here, there, _ in crossings())
    return edges


def sentence(name: str) -> str:
    """The first line of a subpackage's docstring."""
    text = ast.get_docstring(tree_of(PACKAGE / name / "__init__.py")) or ""
    return text.split("\n", 1)[0]


def diagram() -> str:
    """Mermaid: an arrow for each import that does not follow from the others."""
    edges = nx.transitive_reduction(graph())
    lines = ["```mermaid", "graph BT"]
    lines += [f"    {here} --> {there}" for here, there in sorted(edges.edges)]
    return "\n".join([*lines, "```"])


def table() -> str:
    """A row for each subpackage: what it holds, and what it imports."""
    edges = graph()
    rows = ["| subpackage | what it holds | imports |", "|---|---|---|"]
    for name in subpackages():
        imported = ", ".join(sorted(edges.successors(name), key=subpackages().index)) or "nothing"
        rows.append(f"| `{name}/` | {sentence(name)} | {imported} |")
    return "\n".join(rows)


def section() -> str:
    """The part of the page that is made from the imports."""
    return f"{_BEGIN}\n{diagram()}\n\n{table()}\n{_END}"


def page() -> str:
    """``docs/design.md`` with its section as the imports have it now."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{section()}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.relative_to(ROOT)}\n")
