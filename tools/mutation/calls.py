"""Which test files call which function of the project, and how long each file takes.

Every function of the copy notes its name when it is called, by a line that is put in front of its
code while it is imported.  What a test starts as a process of its own is not seen.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_NOTE = "__note_call__"
# Subpackage -> the folders and files whose tests are about it; of these a mistake meets those that
# call its function.  What is not listed has a folder of its own name.
_TESTS = {
    "planning": (
        "tests/planning/",
        "tests/pipelines/test_planning.py",
        "tests/fitting/",
        "tests/test_lessons.py",
        "tests/test_proving",
    ),
    # The profile and the check are runs of virtual: most of it is only there for them.
    "virtual": (
        "tests/virtual/",
        "tests/profile/",
        "tests/checks/",
        "tests/live/",
        "tests/sandbox/",
        "tests/loader/test_audit",
        "tests/pipelines/",
        "tests/test_calls.py",
        "tests/test_uncounted.py",
    ),
    "profile": (
        "tests/profile/",
        "tests/test_blocks.py",
        "tests/test_own_models.py",
        "tests/test_uncounted.py",
        "tests/pipelines/test_planning.py",
    ),
    "rules": ("tests/checks/", "tests/environment/"),
    "checker": ("tests/checks/", "tests/environment/test_lock.py", "tests/test_own_models.py"),
    "runtime": ("tests/live/", "tests/pipelines/test_cache_virtual.py"),
    "loader": ("tests/loader/", "tests/pipelines/", "tests/test_reading.py"),
    "mapfile": (
        "tests/mapfile/",
        "tests/checks/test_device_map_files.py",
        "tests/checks/test_own_maps.py",
        "tests/environment/test_lock.py",
        "tests/test_proving.py",
        "tests/test_writing.py",
        "tests/report/",
    ),
    "workflows": (
        "tests/fitting/",
        "tests/comparing/",
        "tests/test_examining.py",
        "tests/test_lessons.py",
        "tests/test_module_graph.py",
        "tests/test_own_models.py",
        "tests/test_proving",
        "tests/test_uncounted.py",
        "tests/pipelines/test_planning.py",
        "tests/report/",
        "tests/cli/",
    ),
}


@dataclass(frozen=True, kw_only=True)
class Covered:
    """What a test file does when nothing is wrong."""

    seconds: float
    passed: bool
    called: frozenset[str]
    """``path:function`` of every function that it calls; ``path:`` of every file it imports."""


class _Noting(SourceFileLoader):
    """Loads a module whose functions note that they are called."""

    def __init__(self, fullname: str, path: str, root: Path, seen: set[str]) -> None:
        super().__init__(fullname, path)
        self._file = Path(path).relative_to(root).as_posix()
        self._seen = seen

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path))
        self._walk(tree, ())
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__[_NOTE] = self._seen.add
        self._seen.add(f"{self._file}:")
        super().exec_module(module)

    def _walk(self, node: ast.AST, names: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self._walk(child, names)
                continue
            inner = (*names, child.name)
            self._walk(child, inner)
            if not isinstance(child, ast.ClassDef):
                note = ast.parse(f"{_NOTE}({self._file + ':' + '.'.join(inner)!r})").body[0]
                for part in ast.walk(note):
                    ast.copy_location(part, child.body[0])
                child.body.insert(1 if ast.get_docstring(child) is not None else 0, note)


class _Finder:
    """Finds the modules of the project in the copy."""

    def __init__(self, root: Path, seen: set[str]) -> None:
        self._root, self._seen = root, seen

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname.split(".")[0] != "devplan":
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Noting(fullname, spec.origin, self._root, self._seen)
        return spec


def noting(copy: Path, into: Path) -> Callable[[], None]:
    """What a process does before it runs tests so that it writes what they called into a file."""

    def before() -> None:
        import pytest

        seen: set[str] = set()
        sys.meta_path.insert(0, _Finder(copy, seen))
        real = pytest.main

        def main(*given: Any, **named: Any) -> Any:
            code = real(*given, **named)
            into.write_text(json.dumps(sorted(seen)), encoding="utf-8")
            return code

        pytest.main = main

    return before


def is_beside(test: str, path: str) -> bool:
    """Whether a test file is about the part of the project that a file belongs to."""
    return test.startswith(tests_of(path))


def tests_of(path: str) -> tuple[str, ...]:
    """How the names of the test files of a file's part begin."""
    part = path.split("/")[1].removesuffix(".py")
    return _TESTS.get(part, (f"tests/{part}/", f"tests/test_{part}"))
