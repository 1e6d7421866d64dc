"""Project settings: what need not be typed again.

They stand in ``devplan.yaml`` or in ``[tool.devplan]`` of ``pyproject.toml``::

    model: Qwen/Qwen2.5-VL-7B-Instruct
    gpus: [24GiB, 12GiB]
    context: 32768
    pin:
      model.visual: cuda:0

The current folder is looked at first, then its parents up to the root of the project: the first
folder that holds ``pyproject.toml`` or ``.git``.  Outside a project only the current folder counts.
Where both files have settings, ``devplan.yaml`` is used alone.  The command line overrides; merging
is its own matter, so everything here is None until it is set.

Paths (a model or output that starts with ``.``) are relative to the file that they stand in.
``trust-remote-code`` and a factory (``package.module:callable``) as model cannot be set: a project
that was cloned would then run a stranger's code.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from devplan.cli.options import SETTINGS
from devplan.cli.values import Refused
from devplan.core import InputError, NamedInFile, nearest
from devplan.io import SETTINGS as MOST
from devplan.io import compose, construct, read_text, shortened

SETTINGS_FILE = "devplan.yaml"
PROJECT_FILE = "pyproject.toml"
TABLE = "[tool.devplan]"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a project has set."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By key, with ``_`` for ``-``: read as if they had been typed; `model` is a `NamedInFile`."""
    path: Path | None = None
    """The file that they were read from."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Key as written in the file -> line, from 1; empty for TOML, whose reader gives none."""
    notes: tuple[str, ...] = ()

    table: str = ""
    """The table of a TOML file, with a blank before it."""

    def where(self, key: str) -> str:
        """The place of a setting, for messages: ``devplan.yaml, line 3: context``."""
        shown = key if key.isprintable() else repr(key)
        line = f", line {self.lines[key]}" if key in self.lines else ""
        return f"{self.path}{self.table}{line}: {shown}"


def load_settings(folder: Path) -> Settings:
    """The settings that hold in a folder; all None where there are none.

    Parameters
    ----------
    folder : Path
        Where the search starts: the current folder.

    Raises
    ------
    InputError
        For a file that cannot be read, an unknown key or a value of the wrong kind: with the file,
        the line where it is known, and the nearest key.
    """
    folders = _project_folders(folder.resolve())
    own = next((f / SETTINGS_FILE for f in folders if (f / SETTINGS_FILE).is_file()), None)
    project = folders[-1] / PROJECT_FILE
    if own is None:
        table = _project_table(project)
        found = Settings(values=table or {}, path=project, table=f" {TABLE}")
        return Settings() if table is None else _checked(found, folder.resolve())
    values, lines = _read_yaml(own)
    found = Settings(values=values, path=own, lines=lines, notes=_overruled(own, project))
    return _checked(found, folder.resolve())


def _project_folders(folder: Path) -> list[Path]:
    """The folder and its parents up to the root of the project."""
    climbed: list[Path] = []
    for candidate in (folder, *folder.parents):
        climbed.append(candidate)
        if (candidate / PROJECT_FILE).is_file() or (candidate / ".git").exists():
            return climbed
    return [folder]


def _overruled(own: Path, project: Path) -> tuple[str, ...]:
    try:
        table = _project_table(project)
    except InputError:  # the file that is used does not depend on it
        return ()
    if table is None:
        return ()
    return (f"settings come from {own}; {TABLE} of {project} is not used",)


# ------------------------------------------------------------------------------------- reading


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """Content of a YAML mapping, and the line of each of its keys."""
    root = compose(read_text(path, MOST), str(path))
    content = None if root is None else construct(root, str(path))
    if content is None:
        return {}, {}
    if not isinstance(content, dict) or not isinstance(root, yaml.MappingNode):
        raise InputError(
            f"{path} holds no mapping; write one setting a line, such as context: 8192"
        )
    return content, _key_lines(path, root)


def _key_lines(path: Path, root: yaml.MappingNode) -> dict[str, int]:
    lines: dict[str, int] = {}
    for key_node, value_node in root.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in lines:  # YAML would silently keep the last
            raise InputError(f"{path}: {key} is set twice, in lines {lines[key]} and {line}")
        lines[key] = line
        if isinstance(value_node, yaml.MappingNode):
            _key_lines(path, value_node)  # only to refuse a module that is pinned twice
    return lines


def _project_table(path: Path) -> dict[str, Any] | None:
    """``[tool.devplan]`` of a pyproject.toml, or None where it has none."""
    if not path.is_file():
        return None
    text = read_text(path, MOST)
    try:
        tool = tomllib.loads(text).get("tool")
    # [ValueError, RecursionError] of numbers with thousands of digits, and of deep nesting
    except (ValueError, RecursionError) as error:
        if "tool.devplan" not in text:  # broken, but not for us to say
            return None
        raise InputError(f"{path}: broken TOML ({error}); correct it") from error
    table = tool.get("devplan") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise InputError(
            f"{path}: tool.devplan is not a table; write {TABLE} and one setting a line"
        )
    return table


# ------------------------------------------------------------------------------------ checking


_PATH_KEYS = ("model", "output")


def _checked(found: Settings, folder: Path) -> Settings:
    """The settings with each value read; `found` has them as they stand in the file."""
    read = {key: _read_value(found, key, value) for key, value in found.values.items()}
    _refuse_outside(found, read.get("output", ""))
    for key in _PATH_KEYS:
        if found.path.parent != folder and str(read.get(key, "")).startswith("."):
            read[key] = str(found.path.parent / read[key])
    if "model" in read:
        read["model"] = NamedInFile(text=read["model"], file=found.where("model"))
    named = {key.replace("-", "_"): value for key, value in read.items() if value is not None}
    return replace(found, values=named)


def _refuse_outside(found: Settings, output: str) -> None:
    """A project that was cloned must not choose where in the whole file system is written."""
    path = os.path.normpath(output)
    if os.path.isabs(path) or path.split(os.sep)[0] in (os.pardir, "~"):
        raise InputError(
            f"{found.where('output')} leaves the folder of the file: {output}; name a path inside "
            f"it, or give --output {output} on the command line"
        )


def _read_value(found: Settings, key: Any, value: Any) -> Any:
    where = found.where(str(key))
    if str(key).replace("_", "-") == "trust-remote-code":
        raise InputError(
            f"{where} cannot be set in a file, or any cloned project could run its code here; pass "
            "--trust-remote-code on the command line"
        )
    option = SETTINGS.get(key)
    if option is None:
        known = nearest(str(key), SETTINGS) or f"; the settings are {', '.join(SETTINGS)}"
        raise InputError(f"{where} is not a setting{known}")
    try:
        value = option.setting(value)
    except Refused as refused:
        raise InputError(f"{where} holds {shortened(repr(value))}; {refused}") from refused
    try:
        return option.read(value) if option.read and not isinstance(value, Mapping) else value
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
