"""Which private names of other libraries devplan touches: ``python -m tools.private_names``.

``devplan/environment/private_names.json`` lists each of them with its owner and the files that may
touch it.  This command writes the files anew, and names what nobody has listed yet; the owner, and
the first release with or without the name, are typed by hand.
"""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from tools.architecture import PACKAGE, files, tree_of

TABLE = PACKAGE / "environment" / "private_names.json"
LIBRARIES = ("torch", "transformers", "accelerate", "diffusers")

# Private names of Python's own, and ends of names that begin with an underscore.
NOT_A_LIBRARYS = {
    "_asdict",
    "_at_fork_reinit",
    "_fields",
    "_filters_mutated",
    "_getframe",
    "_is_owned",
    "_MAPPING_NAMES",
    "_bias",
    "_token",
    "_type",
}

_LOOK_UPS = ("getattr", "hasattr", "setattr", "delattr", "patched", "patched_here")


def touched() -> Mapping[str, set[str]]:
    """Name -> the files of the package that touch it: of listed names, and of all private ones."""
    listed = {row["name"] for row in rows()}
    found: dict[str, set[str]] = defaultdict(set)
    for path in files():
        tree = tree_of(path)
        own = set(_own_names(tree)) - listed
        for name in _names(tree, listed) - own - NOT_A_LIBRARYS:
            found[name].add(path.relative_to(PACKAGE).as_posix())
    return found


def rows() -> list[dict[str, Any]]:
    """The table as it is now."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def renewed() -> str:
    """The table with the files that touch each name."""
    places = touched()
    lines = [json.dumps(row | {"files": sorted(places.get(row["name"], ()))}) for row in rows()]
    return "[\n " + ",\n ".join(lines) + "\n]\n"


def _own_names(tree: ast.Module) -> Iterator[str]:
    """Names that the module defines itself: of functions, constants, and attributes of `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"):
            yield node.attr


def _names(tree: ast.Module, listed: set[str]) -> set[str]:
    """Private names and listed ones in attributes, imports, look-ups and texts."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            found |= {node.attr} if _is_private(node.attr) or node.attr in listed else set()
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LIBRARIES:
            words = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            found |= set(filter(_is_private, words))
        elif isinstance(node, ast.Call):
            found |= set(_looked_up(node))
        elif isinstance(node, ast.Constant) and node.value in listed:
            found.add(node.value)
    return found


def _looked_up(call: ast.Call) -> Iterator[str]:
    """Texts that name an attribute: ``getattr(config, "_name_or_path", None)``, ``vars(x).get``."""
    called = ast.unparse(call.func)
    if called.split(".")[-1] in (*_LOOK_UPS, "get"):
        for argument in call.args:
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                yield from filter(_is_private, [argument.value])


def _is_private(name: str) -> bool:
    is_own = name.startswith(("__", "_devplan")) or name == "_"
    return name.startswith("_") and name.isidentifier() and not is_own


if __name__ == "__main__":
    TABLE.write_text(renewed(), encoding="utf-8")
    unlisted = {name: sorted(places) for name, places in touched().items()}
    for name in sorted(unlisted.keys() - {row["name"] for row in rows()}):
        sys.stdout.write(f"not listed: {name} in {', '.join(unlisted[name])}\n")
