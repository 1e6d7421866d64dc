"""What the last run of each bug showed, kept in ``results.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from tools.corpus.environments import HERE

FILE = HERE / "results.yaml"
_HEAD = "# Written by `make corpus`; not to be edited.\n"


def read_results() -> dict[str, dict[str, Any]]:
    """Bug -> what `tools.corpus.running.record` gave; empty before the first run."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


def write_results(results: Mapping[str, Any]) -> None:
    """Keep the results."""
    text = yaml.safe_dump(dict(sorted(results.items())), sort_keys=False, width=100)
    FILE.write_text(_HEAD + text, encoding="utf-8")
