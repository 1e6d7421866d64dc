"""Writes what is made from the table of keys: ``python -m devplan.mapfile.publish``.

Run it in the root of the repository after every change of ``devplan/mapfile/keys.py``; a test
fails until it was run.
"""

from __future__ import annotations

from devplan.mapfile.json_schema import schema_text
from devplan.mapfile.reference import reference_text
from devplan.writing import write_text


def published_texts() -> dict[str, str]:
    """Path from the root of the repository -> the text that belongs there."""
    return {"devplan/schema.json": schema_text(), "docs/map-file.md": reference_text()}


if __name__ == "__main__":
    for path, text in published_texts().items():
        write_text(text, path)
