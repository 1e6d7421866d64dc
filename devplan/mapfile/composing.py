"""Text of a map file to YAML nodes, which know their lines."""

from __future__ import annotations

import yaml

from devplan.core import InputError
from devplan.io import compose


def compose_document(text: str, file: str) -> yaml.Node:
    """The one document of a text.

    Raises
    ------
    InputError
        When the text is no YAML, holds no document or several, or exceeds a bound.
    """
    node = compose(text, file)
    if node is None:
        raise InputError(f"{file}:1: empty; `devplan suggest` writes map files")
    return node
