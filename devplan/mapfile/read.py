"""Text of a map file to `DeviceMapFile`, or one line that says where it is wrong."""

from __future__ import annotations

from pathlib import Path

import yaml

from devplan.core import DeviceMapFile, accepts
from devplan.core import path as path_to_file
from devplan.io import MAP, read_text
from devplan.mapfile.composing import compose_document
from devplan.mapfile.consistency import check_consistency
from devplan.mapfile.document import from_document
from devplan.mapfile.keys import MAP_FILE, SCHEMA_VERSION
from devplan.mapfile.nodes import Place, read

MAP_FORMS = "the path of a map file, or what devplan.read_map or devplan.suggest gave"


@accepts(path=path_to_file("the path of a map file"))
def read_map(path: str | Path) -> DeviceMapFile:
    """The map in a file.

    Raises
    ------
    InputError
        When the file cannot be read or is no map; one line with file, line and remedy.
    """
    return loads_map(read_text(path, MAP), str(path))


def loads_map(text: str, name: str) -> DeviceMapFile:
    """The map in a text; `name` stands for the file in messages.

    Raises
    ------
    InputError
        When the text is no map; one line with `name`, line and remedy.
    """
    return map_of_node(compose_document(text, name), name)


def map_of_node(node: yaml.Node, name: str) -> DeviceMapFile:
    """The map in a text that was composed already; as `loads_map`."""
    place = Place(file=name)
    _refuse_other_versions(node, place)
    document = read(MAP_FILE, node, place)
    check_consistency(document, place)
    return from_document(document)


def _refuse_other_versions(node: yaml.Node, place: Place) -> None:
    """Say the version first: the keys of a later format would only look like mistakes."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    stated = next((value for key, value in pairs if key.value == "schema"), None)
    if stated is None or not str(stated.value).isdecimal():
        return
    # [nine digits] are enough to be too many, and int() refuses thousands of them.
    if int(stated.value[:9]) > SCHEMA_VERSION:
        place.refuse(
            stated.start_mark.line + 1,
            f"schema {stated.value[:9]} is of a later devplan, this one reads {SCHEMA_VERSION}; "
            "update devplan",
        )
