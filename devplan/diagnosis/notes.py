"""The story of a failure travels with its exception, as a note that every traceback shows.

The story itself is kept on the exception too: `story_of` gives it back.
"""

from __future__ import annotations

from collections.abc import Iterator

from devplan.diagnosis.failure_report import FailureReport

_ATTRIBUTE = "_devplan_story"


def put(error: BaseException, story: FailureReport | None, text: str) -> None:
    """Add a story and its text.

    With no story the text alone is added, and the exception counts as looked at.
    """
    error.__dict__[_ATTRIBUTE] = story
    error.add_note(text)


def is_told(error: BaseException) -> bool:
    """Whether somebody looked at this exception before."""
    return _ATTRIBUTE in getattr(error, "__dict__", {})


def story_of(error: BaseException) -> FailureReport | None:
    """The story of an exception that went through `diagnose`, or of one that led to it.

    Parameters
    ----------
    error
        Any exception; those that it was raised from or among are looked at too.

    Returns
    -------
    FailureReport or None
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
