"""One section of a map file put into its text, all else left as it stands.

People write comments into maps.  A map that is written anew loses them; one section that is put in
its place does not.
"""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from devplan.core import ensure
from devplan.mapfile.composing import compose_document
from devplan.mapfile.keys import MAP_FILE


def spliced(text: str, name: str, section: str) -> str:
    """The text with a section in the place of the one of that name, or where it belongs.

    Parameters
    ----------
    text
        A map file.
    name
        Key of the section.
    section
        Its text with the comment above it, as the writer writes it.
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
        # In the order of the writer: before the first section that comes after it.
        after = [begins[key] for key in order[order.index(name) + 1 :] if key in begins]
        place = min(after, default=len(lines))
        kept = lines[:place], lines[place:]
    gap = "" if not kept[0] or not kept[0][-1].strip() else "\n"
    return "".join([*kept[0], gap, section, "\n" if kept[1] else "", *kept[1]])


def _beginnings(text: str, lines: Sequence[str]) -> dict[str, int]:
    """Section -> its first line, the comments right above it included."""
    node = compose_document(text, "map")
    ensure(isinstance(node, yaml.MappingNode), "a map that was read is no mapping")
    begins = {}
    for key, _ in node.value:
        line = key.start_mark.line
        while line > 0 and lines[line - 1].startswith("#"):
            line -= 1
        begins[key.value] = line
    return begins
