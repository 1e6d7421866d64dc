"""Imports go one way, and nothing heavy is imported before it is needed.

``config -> skeleton -> profile -> graph -> plan -> map file -> report``: each part may import what
stands to its left in `CHAIN`, and nothing to its right.  A new part of devplan gets its place
here, or this test fails.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "devplan"
FILES = sorted(PACKAGE.rglob("*.py"))

# Every part may import these; they import only one another.
VOCABULARY = (
    "import_path",
    "version",
    "spelling",
    "strangers",
    "errors",
    "calls",
    "units",
    "reading",
    "streams",
    "names",
    "writing",
    "dtypes",
    "costs",
    "types",
    "findings",
    "surroundings",
)
CHAIN = (
    "sandbox",
    "catalog",
    "machine",
    "settings",
    "sources",
    "skeleton",
    "workload",
    "blocks",
    "virtual",
    "inputs",
    "profile",
    "graph",
    "planning",
    "main_device",
    "mapfile",
    "environment",
    "peers",
    "checks",
    "checking",
    "diagnosis",
    "live",
    "loader",
    "lessons",
    "examining",
    "proving",
    "cures",
    "module_graph",
    "precisions",
    "known",
    "studying",
    "suggestion",
    "suggesting",
    "fitting",
    "comparing",
    "report",
    "cli",
    "__main__",
)

# Parts that any path may import: they must come without the heavy libraries.
LIGHT = (*VOCABULARY, "catalog", "machine", "settings", "mapfile", "environment", "workload", "cli")
HEAVY = ("torch", "transformers", "accelerate", "diffusers", "numpy", "huggingface_hub", "networkx")

MOST_LINES = 300
# The vocabulary is one file, so that there is one place to look.
# The run of a split model is above the limit and may not grow: divide it at the next change.
LONGER = {
    "devplan/types.py": 540,
}

# Only the command line prints; a module that is run to renew a published file may say so.
MAY_PRINT = ("cli",)


def part_of(module: str) -> str:
    """``devplan.mapfile.read`` is in the part ``mapfile``."""
    return module.split(".")[1] if "." in module else "__init__"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules of devplan that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            found |= set(inside) if node.module == "devplan" else {node.module}
    return {name for name in found if name.split(".")[0] == "devplan"}


def test_every_part_has_its_place():
    parts = {part_of(module_of(path)) for path in FILES} - {"__init__"}
    assert parts <= {*VOCABULARY, *CHAIN}
    assert not {*VOCABULARY} & {*CHAIN}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_go_one_way(path):
    here = part_of(module_of(path))
    if here in VOCABULARY:
        allowed = {*VOCABULARY}
    elif here == "__init__":
        allowed = {"import_path", "version"}
    else:
        allowed = {*VOCABULARY, *CHAIN[: CHAIN.index(here) + 1]}
    for name in imports_of(path):
        assert part_of(name) in allowed, f"{here} imports {name}, which stands to its right"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_files_are_short_and_named_for_what_they_hold(path):
    name = path.relative_to(ROOT).as_posix()
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGER.get(name, MOST_LINES)
    assert path.stem not in ("utils", "helpers", "common", "misc")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_command_line_prints(path):
    if part_of(module_of(path)) in MAY_PRINT:
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "typer.echo", "click.echo"), f"line {node.lineno}"


def test_light_parts_import_nothing_heavy():
    names = ["devplan", *(f"devplan.{part}" for part in LIGHT)]
    code = (
        f"import sys, importlib; [importlib.import_module(name) for name in {names}]; "
        f"print(sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_public_names_are_there():
    import devplan

    for name in devplan.__all__:
        assert getattr(devplan, name)


def test_the_command_line_prints_through_one_function():
    """What strangers wrote is escaped there, so that nothing may go around it."""
    for path in sorted((PACKAGE / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            is_print = called in ("print", "typer.echo", "click.echo", "sys.stdout.write")
            assert not is_print or path.name == "printing.py", f"{path.name}:{node.lineno}"
