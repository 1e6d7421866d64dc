"""What went wrong, where, why, and what to do: for an exception on its way, or a pasted one.

    exception -> recognised -> frames -> module, line, op, tensors -> entry of the map -> report
    pasted text -> cleaned -> tracebacks -> recognised -> line -> entry, check -> report

Both end in a `FailureReport`.  The meaning of a message is looked up in one table,
``messages.yaml``, which holds facts with their sources; nothing else is guessed at.

Nothing is done before something fails: no hooks, no modes, no bookkeeping.  An exception carries
its frames, the frames hold the modules and tensors, and that is all that is read.  The exception
itself keeps its type, its arguments and its traceback; the report is added as a note.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
