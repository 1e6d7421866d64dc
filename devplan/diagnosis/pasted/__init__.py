"""A pasted text to the errors in it: whatever people copy out of terminals, logs and notebooks.

    text -> lines without colours and prefixes, one stream a process -> errors with their frames

Nothing is assumed to be whole: a traceback may lack its head, its end or its indentation.
"""

from __future__ import annotations

from devplan.diagnosis.pasted.errors import PastedError, PastedFrame, Stream
from devplan.diagnosis.pasted.reading import TRACEBACK_HEAD, read_pasted

__all__ = ["TRACEBACK_HEAD", "PastedError", "PastedFrame", "Stream", "read_pasted"]
