"""Explains a failure: what failed, where, why, and the fix; for a live exception or pasted text.

    exception -> recognised -> frames -> module, line, op, tensors -> entry of the map -> report
    pasted text -> cleaned -> tracebacks -> recognised -> line -> entry, check -> report

Both end in a `FailureReport`.  One table, ``messages.yaml``, gives the meaning of each message,
with its source; nothing else is guessed.

Nothing happens before a failure: no hooks, no modes, no bookkeeping.  Only the frames of the
exception are read, which hold the modules and tensors.  The exception keeps its type, its arguments
and its traceback; the report is added as a note.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
