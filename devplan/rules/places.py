"""Names and numbers in sentences."""

from __future__ import annotations

from collections.abc import Sequence

# Names in a sentence before it only counts; JSON has all of them.
_MOST_NAMES = 3


def listed(names: Sequence[str]) -> str:
    """``a, b and c``, or ``a, b, c and 12 more``."""
    names = [name or "the whole model" for name in names]
    if len(names) > _MOST_NAMES + 1:
        return f"{', '.join(names[:_MOST_NAMES])} and {len(names) - _MOST_NAMES} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def counted(number: int, noun: str) -> str:
    """``1 copy``, ``12 copies``."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {plural}"


def words_for(module: str) -> str:
    """A module's name in a sentence; the empty name is the model."""
    return module or "the model's own code"
