"""What went wrong, where, why, and what to do: for an exception on its way, or a pasted one.

    exception -> recognised -> frames -> module, line, op, tensors -> entry of the map -> story
    pasted text -> cleaned -> tracebacks -> recognised -> line -> entry, check -> story

Both end in a `Story`.  What a message means is looked up in one table, ``messages.yaml``, which
holds facts with their sources; what is not in it is not guessed at.

Nothing is done before something fails: no hooks, no modes, no bookkeeping.  An exception carries
its frames, the frames hold the modules and tensors, and that is all that is read.  The exception
itself keeps its type, its arguments and its traceback; the story is added as a note.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "Diagnosis": "watching",
    "JsonFormatter": "logs",
    "Story": "story",
    "attach": "attached",
    "detach": "attached",
    "diagnose": "watching",
    "explain_text": "explaining",
    "story_of": "notes",
}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
