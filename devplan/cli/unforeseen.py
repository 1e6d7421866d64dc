"""What is said of an error that nobody foresaw: one line, and the traceback for who asks."""

from __future__ import annotations

import traceback

from devplan.io import visible

INTERNAL_ERROR = 70
"""EX_SOFTWARE of sysexits.h; never 1, which means findings."""

_LONGEST = 200


def report_line(error: BaseException, traceback_shown: bool) -> str:
    """One line that asks for a report; how to get the details, where they are not shown."""
    what = f"devplan: internal error, {type(error).__name__}{_message(error)}"
    if traceback_shown:
        return f"{what}; please report it with the traceback above"
    return f"{what}; please report it with what the same command prints with --traceback"


def traceback_text(error: BaseException) -> str:
    """The traceback as Python prints it, ending with a line break."""
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # [messages] an error whose own text cannot be made still has its frames
        return "".join(traceback.format_tb(error.__traceback__))


def _message(error: BaseException) -> str:
    """``: text`` in one printable line of bounded length; empty where there is none."""
    try:
        text = " ".join(str(error)[: 4 * _LONGEST].split())
    except Exception:
        return ""
    return f": {visible(text, _LONGEST)}" if text else ""
