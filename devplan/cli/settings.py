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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from devplan.cli.settings_values import READERS, Refused
from devplan.core import InputError, NamedInFile, nearest
from devplan.io import SETTINGS, compose, construct, read_text, shortened

SETTINGS_FILE = "devplan.yaml"
PROJECT_FILE = "pyproject.toml"
TABLE = "[tool.devplan]"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a project has set; None is what it has not."""

    model: NamedInFile | None = None
    gpus: str | None = None
    """As ``--gpus`` takes it: a list is joined by commas."""
    memory: str | None = None
    """As ``--memory`` takes it."""
    main: str | None = None
    reserve: str | None = None
    """As ``--reserve`` takes it."""
    links: str | None = None
    """As ``--links`` takes it."""
    batch: int | None = None
    context: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    images: int | None = None
    image_size: str | None = None
    """As ``--image-size`` takes it."""
    frames: int | None = None
    tiling: bool | None = None
    objective: str | None = None
    pin: Mapping[str, str] | None = None
    """Module -> device."""
    no_pin: bool | None = None
    offload: tuple[str, ...] | None = None
    """As ``--offload`` takes each: ``cpu=64GiB``, ``disk``."""
    output: str | None = None
    ignore: Mapping[str, str] | None = None
    """Code of a rule -> why its findings are accepted (``devplan check``)."""
    path: Path | None = None
    """The file that they were read from."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Key as written in the file -> line, from 1; empty for TOML, whose reader gives none."""
    notes: tuple[str, ...] = ()

    def where(self, key: str) -> str:
        """The place of a setting, for messages: ``devplan.yaml, line 3: context``."""
        return _where(str(self.path), self.lines, key)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a file holds, before it is checked."""

    path: Path
    values: Mapping[Any, Any]
    lines: Mapping[str, int] = field(default_factory=dict)
    table: str = ""
    notes: tuple[str, ...] = ()


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
        found = None if table is None else Found(path=project, values=table, table=f" {TABLE}")
    else:
        values, lines = _read_yaml(own)
        found = Found(path=own, values=values, lines=lines, notes=_overruled(own, project))
    return Settings() if found is None else _settings(found, folder.resolve())


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
    root = compose(read_text(path, SETTINGS), str(path))
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
    text = read_text(path, SETTINGS)
    try:
        tool = tomllib.loads(text).get("tool")
    # [ValueError, RecursionError] of numbers with thousands of digits, and of deep nesting
    except (ValueError, RecursionError) as error:
        if "tool.devplan" not in text:  # broken, but not for us to say
            return None
        raise InputError(f"{path}: broken TOML ({error}); correct it") from error
    table = tool.get("devplan") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise InputError(f"{path}: tool.devplan is no table; write {TABLE} and one setting a line")
    return table


# ------------------------------------------------------------------------------------ checking


_PATH_KEYS = ("model", "output")


def _settings(found: Found, folder: Path) -> Settings:
    read = {key: _read_value(found, key, value) for key, value in found.values.items()}
    _refuse_outside(found, read.get("output", ""))
    for key in _PATH_KEYS:
        if found.path.parent != folder and str(read.get(key, "")).startswith("."):
            read[key] = str(found.path.parent / read[key])
    if "model" in read:
        where = _where(f"{found.path}{found.table}", found.lines, "model")
        read["model"] = NamedInFile(text=read["model"], file=where)
    fields = {key.replace("-", "_"): value for key, value in read.items()}
    return Settings(**fields, path=found.path, lines=found.lines, notes=found.notes)


def _refuse_outside(found: Found, output: str) -> None:
    """A project that was cloned must not choose where in the whole file system is written."""
    path = os.path.normpath(output)
    if os.path.isabs(path) or path.split(os.sep)[0] in (os.pardir, "~"):
        where = _where(f"{found.path}{found.table}", found.lines, "output")
        raise InputError(
            f"{where} leaves the folder of the file: {output}; name a path inside it, or give "
            f"--output {output} on the command line"
        )


def _read_value(found: Found, key: Any, value: Any) -> Any:
    where = _where(f"{found.path}{found.table}", found.lines, str(key))
    if str(key).replace("_", "-") == "trust-remote-code":
        raise InputError(
            f"{where} cannot be set in a file, or any cloned project could run its code here; pass "
            "--trust-remote-code on the command line"
        )
    reader = READERS.get(key)
    if reader is None:
        known = nearest(str(key), READERS) or f"; the settings are {', '.join(READERS)}"
        raise InputError(f"{where} is no setting{known}")
    try:
        return reader(value)
    except Refused as refused:
        raise InputError(f"{where} holds {shortened(repr(value))}; {refused}") from refused


def _where(name: str, lines: Mapping[str, int], key: str) -> str:
    shown = key if key.isprintable() else repr(key)
    return f"{name}{f', line {lines[key]}' if key in lines else ''}: {shown}"
