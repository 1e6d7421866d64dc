"""Reports that set things side by side, on the screen and in files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devplan.cli.delivery import deliver
from devplan.cli.printing import say
from devplan.io import visible

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
    if deliver(lambda terminal: as_json() if form == "json" else as_text(terminal), output):
        say(f"wrote {visible(output)}", to_stderr=True)
