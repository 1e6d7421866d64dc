"""`DeviceMapFile` to text, and the text to a file, whole or not at all.

The same map always gives the same text: nothing in it depends on the time, the folder or the
order in which something was hashed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import yaml

from devplan.core import DeviceMapFile, InputError, accepts, ensure, flag, wrong
from devplan.core import path as path_to_file
from devplan.io import WriteOutcome, in_quotes, needs_quotes, write_text
from devplan.machine import machine_label
from devplan.mapfile.default_name import default_path
from devplan.mapfile.document import to_document
from devplan.mapfile.header import header_lines
from devplan.mapfile.keys import MAP_FILE
from devplan.mapfile.read import compose_document

_LINE_LENGTH = 100
LOCK = "environment"


class _NameList(list[str]):
    """A list of module names, written as running text and not one per line."""


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        # Lists are indented below their key, as people write them.
        return super().increase_indent(flow, False)


_Dumper.add_representer(
    _NameList,
    lambda dumper, names: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", names, flow_style=True
    ),
)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    """Invisible characters are escaped, and so are Unicode's line breaks, which YAML folds."""
    style = '"' if needs_quotes(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text_node)


def dump_map(map_file: DeviceMapFile, shown_path: str | PurePath | None = None) -> str:
    """Text of a map file; `shown_path` in the Python code of its header, by default its own."""
    if shown_path is None:
        label = machine_label(map_file.machine)
        model = map_file.model
        shown_path = default_path(
            model.id, label, map_file.workload, packed=model.packed, quantize=model.quantize
        )
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
    return f"# {meaning}\n{in_quotes(body)}"


def lock_text(map_file: DeviceMapFile) -> str:
    """The section ``environment`` with its comment, as `dump_map` writes it."""
    meaning = next(key.meaning for key in MAP_FILE.keys if key.name == LOCK)
    return _section_text(LOCK, meaning, to_document(map_file))


def spliced(text: str, name: str, section: str) -> str:
    """The text with one section replaced, or inserted where it belongs, and all else unchanged.

    A map that is written anew loses the comments that people wrote into it; this keeps them.
    `name` is the key of the section, `section` its text with the comment above it.
    """
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    begins = _beginnings(text, lines)
    order = [key.name for key in MAP_FILE.keys]
    if name in begins:
        first = begins[name]
        later = sorted(line for line in begins.values() if line > first)
        last = later[0] if later else len(lines)
        kept = lines[:first], lines[last:]
    else:
        # Sections keep the order of the writer: it goes before the first of those behind it.
        after = [begins[key] for key in order[order.index(name) + 1 :] if key in begins]
        place = min(after, default=len(lines))
        kept = lines[:place], lines[place:]
    gap = "" if not kept[0] or not kept[0][-1].strip() else "\n"
    return "".join([*kept[0], gap, section, "\n" if kept[1] else "", *kept[1]])


def _beginnings(text: str, lines: Sequence[str]) -> dict[str, int]:
    """Section -> its first line, which may be a comment right above it."""
    node = compose_document(text, "map")
    ensure(isinstance(node, yaml.MappingNode), "a map that was read is not a mapping")
    begins = {}
    for key, _ in node.value:
        line = key.start_mark.line
        while line > 0 and lines[line - 1].startswith("#"):
            line -= 1
        begins[key.value] = line
    return begins


def _map_of(name: str, value: Any) -> DeviceMapFile:
    """A map file, or that of a `devplan.suggest`, whose ``checked_map`` raises the reason."""
    value = getattr(value, "checked_map", value)
    if isinstance(value, DeviceMapFile):
        return value
    if value is None:
        raise InputError(
            "map_file is None: devplan.suggest found nothing that fits; write_map(found, path) "
            "says why, as does found.result.reason"
        )
    raise wrong(name, value, "what devplan.suggest or devplan.read_map gave")


@accepts(map_file=_map_of, path=path_to_file("the path of the file to write"), force=flag)
def write_map(
    map_file: DeviceMapFile | Any,
    path: str | PurePath,
    *,
    force: bool = False,
    option: str = "-o",
) -> WriteOutcome:
    """Write a map, creating the folders on the way.

    Parameters
    ----------
    map_file
        The map, or what `devplan.suggest` gave.
    path
        The file; the header contains a relative path as it is, and the name of an absolute one.
    force
        Whether a file with different content may be replaced.
    option
        What the user named the file with, for messages.

    Raises
    ------
    InputError
        When there is no map, the path cannot be written, or the file has different content and
        `force` is not given.
    """
    given = PurePath(path)
    text = dump_map(map_file, given.name if given.is_absolute() else given)
    return write_text(text, path, force=force, option=option)
