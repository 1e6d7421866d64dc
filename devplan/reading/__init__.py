"""Files that are given: every text, JSON and YAML file is read here, and nothing of it unbounded.

A file is data of whoever wrote it.  It is read where it is a regular file of bounded size in
UTF-8; JSON and YAML in it may be nested so deeply, hold so many values and numbers of so many
digits, and no more.  The bounds are stated in ``docs/limits.md``; each lets ten times the largest
file through that is known.
"""

from __future__ import annotations

from devplan.reading.files import (
    BASELINE,
    CONFIG,
    INDEX,
    LOG,
    MAP,
    SETTINGS,
    Kind,
    bounded_bytes,
    read_bytes,
    read_text,
    text_of,
)
from devplan.reading.json_text import parse_json
from devplan.reading.yaml_text import compose, construct, load_yaml

__all__ = [
    "BASELINE",
    "CONFIG",
    "INDEX",
    "LOG",
    "MAP",
    "SETTINGS",
    "Kind",
    "bounded_bytes",
    "compose",
    "construct",
    "load_yaml",
    "parse_json",
    "read_bytes",
    "read_text",
    "text_of",
]
