"""Writes everything that is made from the code: ``make pages``.

The pages of the rules, the schema and the reference of the map file, the facts of PyTorch's device
checks, and the diagram of the architecture.  A test of each fails until it was run.
"""

from __future__ import annotations

from devplan.io import write_text
from tools import architecture, map_file_pages, native_rules, rule_pages

MADE_BY = (rule_pages, map_file_pages, native_rules)


def published_texts() -> dict[str, str]:
    """Path from the root of the repository -> the text that belongs there."""
    made = {path: text for module in MADE_BY for path, text in module.published_texts().items()}
    return {**made, "docs/design.md": architecture.page()}


if __name__ == "__main__":
    for path, text in published_texts().items():
        write_text(text, path)
