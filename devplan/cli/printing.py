"""Everything that the command line says goes through here: to the screen or into a file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from devplan.io import (
    CannotWrite,
    err,
    is_stdout,
    out,
    printed,
    prose,
    refuse_unwritable,
    visible,
    write_text,
)

if TYPE_CHECKING:
    from devplan.report import Terminal

_UPDATES_PER_S = 12.5


def say(text: str, *, end: str = "\n", to_stderr: bool = False, commands: bool = False) -> None:
    """Print text in which nothing is taken for more than text.

    Parameters
    ----------
    text
        Lines, as devplan made them of its own words and of strangers'.
    end
        What ends it.
    to_stderr
        Whether it is beside the answer: an error or a note.
    commands
        Whether it is commands for GitHub.

    Raises
    ------
    CannotWrite
        When stdout does not take it; for stderr there is nobody to be told.
    """
    stream = err() if to_stderr else out()
    text = printed(text, styles=_styles() if stream.isatty() else (), commands=commands)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    # [ASCII] a terminal that cannot show a letter is shown its number.
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, end=end, file=stream)
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        if not to_stderr:
            raise CannotWrite(getattr(error, "strerror", None) or "it is closed") from error


def _styles() -> tuple[str, ...]:
    from devplan.report import SEQUENCES

    return SEQUENCES


def say_notes(notes: Iterable[str]) -> None:
    """Print notes beside the answer, one line each."""
    for note in notes:
        say(f"note: {prose(note)}", to_stderr=True)


def say_report(as_text: Callable[[Terminal], str], as_json: Callable[[], str], json: bool) -> None:
    """Print a report on the screen, in one of two formats."""
    from devplan.report import terminal_of

    say(as_json() if json else as_text(terminal_of(out())), end="")


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


def deliver_table(
    as_json: Callable[[], str], as_text: Callable[[Terminal], str], form: str, output: str | None
) -> None:
    """The same for a report in one of two formats; a file that was written is named on stderr."""
    if deliver(lambda terminal: as_json() if form == "json" else as_text(terminal), output):
        say(f"wrote {visible(output)}", to_stderr=True)


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[Callable[[str], None]]:
    """A function that shows the step that is running: on a terminal only, in one line."""
    if not err().isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", "starting")
    console = Console(file=err())
    # [streams] rich is not to decide who else may write meanwhile.
    still = {"redirect_stdout": False, "redirect_stderr": False}
    with Live(spinner, console=console, transient=True, refresh_per_second=_UPDATES_PER_S, **still):
        # [markup] a name such as [red] is shown as it is written.
        yield lambda text: spinner.update(text=Text(prose(text)))
