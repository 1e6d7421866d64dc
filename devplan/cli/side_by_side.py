"""Reports that set things side by side, on the screen and in files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from devplan.report import Terminal


def show(
    as_json: Callable[[], str],
    as_text: Callable[[Terminal], str],
    form: str,
    output: str | None,
) -> None:
    """Print a report, or write it to a file.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    from devplan.cli.check import write_text
    from devplan.report import Terminal, terminal_of

    if output is None:
        print(as_json() if form == "json" else as_text(terminal_of(sys.stdout)), end="")
        return
    write_text(Path(output), as_json() if form == "json" else as_text(Terminal()))
    print(f"wrote {output}", file=sys.stderr)
