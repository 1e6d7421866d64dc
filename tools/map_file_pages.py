"""Writes what is made from the table of keys: ``make pages``.

Run it in the root of the repository after every change of ``devplan/mapfile/keys.py``; a test
fails until it was run.
"""

from __future__ import annotations

from devplan.mapfile.json_schema import schema_text
from tools.map_file_reference import reference_text


def published_texts() -> dict[str, str]:
    """Path from the root of the repository -> the text that belongs there."""
    return {"devplan/schema.json": schema_text(), "docs/map-file.md": reference_text()}
