"""What long work shows: a line that changes on a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from devplan.strangers import prose


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[Callable[[str], None]]:
    """A function that shows a few words about the step that is running."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.text import Text

    # [markup] a name such as [red] is shown as it is written.
    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(Text(prose(text)))
