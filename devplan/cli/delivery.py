"""Where a report goes: the screen, or the file that ``-o`` names."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from devplan.cli.printing import say
from devplan.io import is_stdout, out, refuse_unwritable, write_text

if TYPE_CHECKING:
    from devplan.report import Terminal


def look_at_output(output: str | None) -> None:
    """Refuse a file that cannot be written before the work whose report goes there.

    Raises
    ------
    InputError
        With the reason.
    """
    if output is not None and not is_stdout(output):
        refuse_unwritable(output, streams=True)


def deliver(
    report: Callable[[Terminal], str], output: str | None, *, commands: bool = False
) -> bool:
    """Print a report, or write it to a file; gives whether it went to a file.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    from devplan.report import Terminal, terminal_of

    if output is None or is_stdout(output):
        say(report(terminal_of(out())), end="", commands=commands)
        return False
    write_text(report(Terminal()), output, streams=True)
    return True
