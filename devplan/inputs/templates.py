"""A chat template is a program of whoever made the folder: it has little time and little memory."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

from devplan.sandbox import OutOfTime, run_foreign, within

_SECONDS = 5.0
"""Templates take milliseconds."""
_LATE = f"its chat template did not end in {_SECONDS:g} s"
_MEMORY_BYTES = 2**28
_LONGEST_TEXT = 2**24
"""Characters around the words of a prompt: a few hundred."""

_endless: set[str] = set()
"""Templates that did not end once in this process: several calls of one check ask for a prompt."""


def rendered(processor: Any, message: list[dict[str, Any]]) -> str:
    """What the chat template of a processor makes of a message.

    Raises
    ------
    RuntimeError
        When it does not end, or makes a text that no prompt is.
    """
    template = str(processor.chat_template)
    if template in _endless:
        raise RuntimeError(_LATE)
    render = partial(
        run_foreign,
        processor.apply_chat_template,
        message,
        tokenize=False,
        add_generation_prompt=True,
    )
    try:
        with _little_memory():
            text = within(_SECONDS, render)
    except OutOfTime:
        _endless.add(template)
        raise RuntimeError(_LATE) from None
    except MemoryError:
        raise RuntimeError("its chat template needs more memory than any prompt") from None
    if len(text) > _LONGEST_TEXT + len(str(message)):
        raise RuntimeError(f"its chat template makes {len(text):,} characters of one prompt")
    return text


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """A few hundred MiB more than this process has, where nothing else of it would notice.

    The limit is the process's: with other threads at work, or without Linux, there is none.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            taken = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        taken = 0
    if not taken or threading.active_count() > 1:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = taken + _MEMORY_BYTES
    if before[0] != resource.RLIM_INFINITY:
        most = min(most, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
