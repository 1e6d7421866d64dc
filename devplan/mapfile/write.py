"""`DeviceMapFile` to text, and the text to a file, whole or not at all.

The same map always gives the same text: nothing in it depends on the time, the folder or the
order in which something was hashed.  A file is written beside its target and moved over it, so
that a reader sees the old map or the new one and never a half.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from enum import Enum
from pathlib import Path, PurePath
from typing import Any

import yaml

from devplan.errors import InputError
from devplan.machine.label import machine_label
from devplan.mapfile.default_name import default_path
from devplan.mapfile.document import to_document
from devplan.mapfile.header import header_lines
from devplan.mapfile.keys import MAP_FILE
from devplan.types import DeviceMapFile

_LINE_LENGTH = 100
LOCK = "environment"
_UNICODE_BREAKS = "\x85\u2028\u2029"


class WriteOutcome(str, Enum):
    """What `write_map` did; the value is the word that a report shows."""

    WRITTEN = "written"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"


class _NameList(list[str]):
    """A list of module names: in one run of text, not one a line."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # [lists] indented below their key, as people write them.
        return super().increase_indent(flow, False)


_Dumper.add_representer(
    _NameList,
    lambda dumper, names: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", names, flow_style=True
    ),
)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Text with any of Unicode's own line breaks is escaped: PyYAML would read them as blanks."""
    style = '"' if any(char in text for char in _UNICODE_BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def dump_map(map_file: DeviceMapFile, shown_path: str | PurePath | None = None) -> str:
    """Text of a map file.

    Parameters
    ----------
    map_file
        The map.
    shown_path
        The path in the Python line of the header; None: where the map goes by default.
    """
    if shown_path is None:
        label = machine_label(map_file.machine)
        is_packed = map_file.model.packed
        shown_path = default_path(map_file.model.id, label, map_file.workload, packed=is_packed)
    document = to_document(map_file)
    for section in ("pins", "relaxed"):
        for item in document[section]:
            item["blocks"] = _NameList(item["blocks"])
    present = (key for key in MAP_FILE.keys if key.name in document)
    sections = [_section_text(key.name, key.meaning, document) for key in present]
    header = [f"# {line}".rstrip() for line in header_lines(map_file, shown_path)]
    return "\n".join(header) + "\n\n" + "\n".join(sections)


def _section_text(name: str, meaning: str, document: dict[str, Any]) -> str:
    body = yaml.dump(
        {name: document[name]},
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=_LINE_LENGTH,
    )
    return f"# {meaning}\n{body}"


def lock_text(map_file: DeviceMapFile) -> str:
    """The section ``environment`` with its comment, as `dump_map` writes it."""
    meaning = next(key.meaning for key in MAP_FILE.keys if key.name == LOCK)
    return _section_text(LOCK, meaning, to_document(map_file))


def write_map(
    map_file: DeviceMapFile, path: str | PurePath, *, force: bool = False
) -> WriteOutcome:
    """Write a map, creating the folders on the way.

    Parameters
    ----------
    map_file
        The map.
    path
        The file; a relative path stands in the header as it is, an absolute one by its name.
    force
        Whether a file with different content may be replaced.

    Raises
    ------
    InputError
        When the path cannot be written, or holds something else and `force` is not given.
    """
    given = PurePath(path)
    text = dump_map(map_file, given.name if given.is_absolute() else given)
    return write_map_text(text, path, force=force)


def write_map_text(text: str, path: str | PurePath, *, force: bool = False) -> WriteOutcome:
    """The same for the text of a map."""
    try:
        return _place(text.encode(), Path(os.path.realpath(path)), shown=str(path), force=force)
    except InputError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot write {path}: {reason}; choose another file with -o FILE, or -o - for stdout"
        ) from None


def _place(content: bytes, target: Path, *, shown: str, force: bool) -> WriteOutcome:
    if target.is_dir():
        raise InputError(f"cannot write {shown}: it is a folder; name a file with -o FILE")
    if target.exists() and not target.is_file():
        raise InputError(f"cannot write {shown}: it is no regular file; -o - writes to stdout")
    outcome = WriteOutcome.WRITTEN
    if target.exists():
        if target.read_bytes() == content:
            return WriteOutcome.UNCHANGED
        if not force:
            raise InputError(
                f"{shown} exists and holds something else; --force replaces it, -o FILE writes "
                "to another file"
            )
        outcome = WriteOutcome.REPLACED
    _make_folder(target.parent)
    _write_whole(content, target)
    return outcome


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder") from error


def _write_whole(content: bytes, target: Path) -> None:
    """Write beside the target, then move over it: os.replace is atomic in one folder."""
    mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
    draft = target.parent / f".devplan-{secrets.token_hex(8)}.tmp"
    try:
        # [permissions] open() honours the umask; tempfile would make the map private.
        with open(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None:
            os.chmod(draft, mode)
        os.replace(draft, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()
