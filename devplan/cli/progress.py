"""What long work shows: a line that changes on a terminal, nothing in a pipe."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from devplan.io import err, prose

_PER_S = 12.5


@contextlib.contextmanager
def progress_on_stderr() -> Iterator[Callable[[str], None]]:
    """A function that shows a few words about the step that is running."""
    if not err().isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.spinner import Spinner
    from rich.text import Text

    spinner = Spinner("dots", "starting")
    console = Console(file=err())
    # [streams] who else may speak meanwhile is not rich's to say.
    still = {"redirect_stdout": False, "redirect_stderr": False}
    with Live(spinner, console=console, transient=True, refresh_per_second=_PER_S, **still):
        # [markup] a name such as [red] is shown as it is written.
        yield lambda text: spinner.update(text=Text(prose(text)))
