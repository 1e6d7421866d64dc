"""Everything that the command line says goes through here, on its way to stdout or stderr."""

from __future__ import annotations

from collections.abc import Iterable

from devplan.io import CannotWrite, err, out, printed, prose


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


def say_notes(notes: Iterable[str]) -> None:
    """Print what is worth knowing beside the answer, one line each."""
    for note in notes:
        say(f"note: {prose(note)}", to_stderr=True)


def _styles() -> tuple[str, ...]:
    from devplan.report import SEQUENCES

    return SEQUENCES
