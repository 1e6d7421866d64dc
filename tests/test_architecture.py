"""The structure of devplan: which subpackage may import what, and how large a module may be.

`tools.architecture` names the layers and reads the imports; ``make architecture`` draws them.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict

from tools import architecture
from tools.architecture import LAYERS, PACKAGE, ROOT, module_of, subpackage_of, tree_of

MOST_SUBPACKAGES = 20
MOST_LAYERS = 13
MOST_LINES = 600
MOST_LINES_OF_A_FUNCTION = 50

# Functions that are above the limit and may not grow; the set only shrinks.
STILL_LONG: set[str] = set()

# What each member of a family with a table defines.
FAMILIES = {
    "check": "devplan.rules.",
    "solve": "devplan.planning.solvers.",
    "fits": "devplan.planning.solvers.",
    "is_exact": "devplan.planning.solvers.",
    "sizes": "devplan.profile.quantization.",
    "pieces": "devplan.profile.quantization.",
    "published_texts": "tools.",
}

# Subpackages that are imported before it is known what a command needs.
LIGHT = ("core", "io", "sandbox", "catalog", "machine", "mapfile", "environment", "cli")
HEAVY = ("torch", "transformers", "accelerate", "diffusers", "numpy", "huggingface_hub", "networkx")


def test_a_subpackage_imports_from_the_layers_before_it():
    loose = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"}
    assert not loose, "every module belongs into a subpackage"
    there = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert there == set(architecture.subpackages())
    assert len(there) <= MOST_SUBPACKAGES and len(LAYERS) <= MOST_LAYERS
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    for here, other, taken in architecture.crossings():
        where = f"{module_of(taken.path)}:{taken.line}"
        assert layer[other] < layer[here], f"{where}: {here} may not import {taken.module}"


def test_what_crosses_is_what_a_subpackage_exports():
    exported = architecture.exports()
    used = defaultdict(set)
    for _, other, taken in architecture.crossings():
        where = f"{module_of(taken.path)}:{taken.line}"
        assert taken.module == f"devplan.{other}", f"{where}: import it from devplan.{other}"
        assert taken.name in exported[other], f"{where}: devplan.{other} does not export it"
        used[other].add(taken.name)
    for node in ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom):
            used[node.module] |= {alias.name for alias in node.names}
    used["cli"].add("main")
    for name, names in exported.items():
        assert not names - used[name], f"devplan.{name} exports what nobody imports"
        modules = {path.stem for path in (PACKAGE / name).glob("*.py")}
        defined = {taken.name for taken in _exported_definitions(name)}
        assert not defined & modules, "a name and a module of one name hide each other"


def _exported_definitions(name: str) -> list[ast.alias]:
    """What a subpackage exports of its modules' contents, not the modules themselves."""
    stub = PACKAGE / name / "__init__.pyi"
    path = stub if stub.is_file() else PACKAGE / name / "__init__.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    froms = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    whole = (None, f"devplan.{name}")
    return [alias for node in froms if node.module not in whole for alias in node.names]


def test_modules_and_functions_are_short():
    for path in architecture.files():
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= MOST_LINES, module_of(path)
        assert path.stem not in ("utils", "helpers", "common", "misc"), module_of(path)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef):
                length = _lines_of_code(node)
                name = f"{module_of(path)}.{node.name}"
                assert length <= MOST_LINES_OF_A_FUNCTION or name in STILL_LONG, name


def _lines_of_code(node: ast.FunctionDef) -> int:
    """Lines from the first statement behind the docstring to the end."""
    body = node.body[1:] if ast.get_docstring(node) else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_only_the_command_line_prints_and_it_does_through_one_module():
    """What strangers wrote is escaped there, so that nothing may go around it."""
    for path in architecture.files():
        if subpackage_of(path) == "cli" and path.name == "printing.py":
            continue
        for node in ast.walk(tree_of(path)):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            printed = called in ("print", "typer.echo", "click.echo", "sys.stdout.write")
            assert not printed, f"{module_of(path)}:{node.lineno}"


def test_light_subpackages_import_nothing_heavy():
    names = ["devplan", *(f"devplan.{name}" for name in LIGHT), "devplan.cli.app"]
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


def test_every_exported_name_can_be_imported():
    import importlib

    for name in ("devplan", *(f"devplan.{part}" for part in architecture.subpackages())):
        package = importlib.import_module(name)
        for exported in package.__all__:
            assert getattr(package, exported) is not None


def test_the_drawing_is_that_of_the_imports():
    assert architecture.page() == architecture.PAGE.read_text(encoding="utf-8"), (
        "run `make architecture`"
    )


def test_a_public_name_is_defined_once():
    defined = defaultdict(set)
    for path in architecture.files():
        for node in tree_of(path).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                defined[node.name].add(module_of(path))
    twice = {name: sorted(where) for name, where in defined.items() if len(where) > 1}
    twice = {name: where for name, where in twice.items() if not _is_a_family(name, where)}
    assert not twice


def _is_a_family(name: str, where: list[str]) -> bool:
    """Whether a name is what every member of a table defines, such as `check` in a rule."""
    inside = [module for module in where if module.startswith(FAMILIES.get(name, "-"))]
    return len(where) - len(inside) <= 1


def test_the_walk_throughs_name_what_is_there():
    import importlib
    import re

    text = architecture.PAGE.read_text(encoding="utf-8")
    names = set(re.findall(r"`(devplan(?:\.\w+)+)`", text))
    assert len(names) > 10
    for name in names:
        module, _, last = name.rpartition(".")
        found = importlib.import_module(module)
        if not hasattr(found, last):
            importlib.import_module(name)
