"""Where a story is put so that it travels with its exception.

* Python 3.11 and newer: ``add_note``, which every traceback shows.
* Python 3.10 has no notes.  The text still goes into ``__notes__``, which pytest, IPython's
  successors and the ``exceptiongroup`` backport read, and as Python's own traceback does not show
  it, the log record of the failure holds the whole story instead of its head (see `logs`).  Neither
  the arguments nor the cause of the exception are touched to carry it.

The story itself is kept on the exception too: `story_of` gives it back.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.diagnosis.story import Story

_ATTRIBUTE = "_devplan_story"


def put(error: BaseException, story: Story | None, text: str) -> bool:
    """Add a story and its text; whether Python's traceback will show the text.

    With no story the text alone is added, and the exception counts as looked at.
    """
    error.__dict__[_ATTRIBUTE] = story
    add_note = getattr(error, "add_note", None)
    if add_note is not None:
        add_note(text)
        return True
    error.__dict__.setdefault("__notes__", []).append(text)
    return False


def is_told(error: BaseException) -> bool:
    """Whether somebody looked at this exception before."""
    return _ATTRIBUTE in getattr(error, "__dict__", {})


def story_of(error: BaseException) -> Story | None:
    """The story of an exception that went through `diagnose`, or of one that led to it.

    Parameters
    ----------
    error
        Any exception; those that it was raised from or among are looked at too.

    Returns
    -------
    Story or None
        None: it is about no device and no memory, or nobody looked.

    Examples
    --------
    ::

        try:
            with devplan.diagnose(model):
                model.generate(**inputs)
        except RuntimeError as error:
            story = devplan.diagnosis.story_of(error)
    """
    for each in related(error):
        if is_told(each):
            return each.__dict__[_ATTRIBUTE]
    return None


def related(error: BaseException) -> Iterator[BaseException]:
    """The exception, what it was raised from, and the members of a group, each once.

    What ``raise ... from None`` hides stays hidden.
    """
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if each.__cause__ is not None:
            waiting.append(each.__cause__)
        elif each.__context__ is not None and not each.__suppress_context__:
            waiting.append(each.__context__)
        waiting.extend(getattr(each, "exceptions", ()))
