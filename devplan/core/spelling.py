"""Which known names a mistyped one may have meant, and which it surely did not.

A name is near another one when one of these holds; case and separators never count:

* it is mistyped: few letters are inserted, missing, replaced or swapped, by the length of what the
  two do not share word by word (``gtpq``, ``LlamaForCausalML``, ``meta-lama/Llama-3.1-8B``);
* it is shortened: each of its words is one of the known name, or the beginning of one
  (``qwen2.5-vl-7b``, ``bal``, ``layers.3``);
* it is lengthened: it holds all words of the known name and not much else (``context_length``);
* it differs in numbers only (``model.layers.99``, ``rtx-4095``).

Being alike by the letters that two names happen to share is not enough: that made ``granite`` of
``frobnicate``.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

LONGEST = 200
"""Longer text is no mistyped name; to compare it would take time."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_SEPARATORS = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"[0-9]+")
_AS_GOOD = 0.1
"""How much less alike than the best a name may be to be listed beside it."""


@dataclass(frozen=True)
class _Spelling:
    words: tuple[str, ...]
    joined: str
    letters: str
    """Without digits."""


def near_names(
    name: str,
    known: Iterable[str],
    *,
    limit: int = 3,
    spelled: Callable[[str], Iterable[str]] = lambda known: (known,),
) -> list[str]:
    """The known names that `name` may have meant, the most alike first.

    Parameters
    ----------
    name
        As it was typed.
    known
        What would have been right.
    limit
        Names to give at most.
    spelled
        The ways in which a known name may be written: a model with and without its organisation.
    """
    typed = _spelling(name[: LONGEST + 1])
    if len(name) > LONGEST or not typed.joined:
        return []
    scores: dict[str, float] = {}
    for candidate in known:
        found = [_likeness(typed, _spelling(text)) for text in spelled(candidate)]
        if any(found):
            scores[candidate] = max(found)
    least = max(scores.values(), default=0) - _AS_GOOD
    ranked = sorted(scores, key=lambda candidate: -scores[candidate])
    return [candidate for candidate in ranked if scores[candidate] >= least][:limit]


@functools.lru_cache(maxsize=2**14)
def _spelling(text: str) -> _Spelling:
    apart = _CAMEL.sub(" ", text) if text.isidentifier() else text  # Qwen3-8B is no class
    words = tuple(filter(None, _SEPARATORS.split(apart.lower())))
    joined = "".join(words)
    return _Spelling(words, joined, _DIGITS.sub("", joined))


def _likeness(typed: _Spelling, known: _Spelling) -> float:
    """From 0, another name, to 1 and 2, the same but for case and separators."""
    if typed.joined == known.joined:
        return 2
    if len(known.joined) > LONGEST or not (
        _is_mistyped(typed, known)
        or _is_shortened(typed, known)
        or _is_lengthened(typed, known)
        or _has_other_numbers(typed, known)
    ):
        return 0
    return difflib.SequenceMatcher(None, typed.joined, known.joined, autojunk=False).ratio()


def _is_mistyped(typed: _Spelling, known: _Spelling) -> bool:
    """By what is left where the words that both begin and end with are taken away.

    Else ``FooForCausalLM`` would be near ``OPTForCausalLM``: three letters of fourteen.
    """
    left, right = _differing(typed.words, known.words)
    return _is_typo(left, right) or (
        min(len(typed.joined), len(known.joined)) >= 5 and _distance(left, right, 1) == 1
    )


def _is_shortened(typed: _Spelling, known: _Spelling) -> bool:
    if len(typed.joined) >= 3 and known.joined.startswith(typed.joined):
        return True
    least = 4 if len(typed.words) > 1 else 5  # a word alone has nothing beside it that fits
    return max(map(len, typed.words)) >= 3 and all(
        any(_is_word(word, of, least) for of in known.words) for word in typed.words
    )


def _is_word(typed: str, word: str, least: int) -> bool:
    if len(typed) >= 3:
        return word.startswith(typed) or (len(typed) >= least and _is_typo(typed, word))
    return typed == word or _other_number(typed, word)


def _other_number(typed: str, word: str) -> bool:
    """``8b`` for ``7b``."""
    return _DIGITS.sub("0", typed) == _DIGITS.sub("0", word)


def _is_lengthened(typed: _Spelling, known: _Spelling) -> bool:
    least = max(4, len(typed.joined) / 2)
    return len(known.joined) >= least and set(known.words) <= set(typed.words)


def _has_other_numbers(typed: _Spelling, known: _Spelling) -> bool:
    if len(typed.letters) < 3 or typed.letters == typed.joined:
        return False
    if len(typed.words) == len(known.words) == 1 and _is_typo(typed.letters, known.letters):
        return True
    return typed.letters == known.letters != known.joined


def _differing(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, str]:
    start, most = 0, min(len(left), len(right))
    while start < most and left[start] == right[start]:
        start += 1
    end = 0
    while end < most - start and left[-1 - end] == right[-1 - end]:
        end += 1
    return "".join(left[start : len(left) - end]), "".join(right[start : len(right) - end])


def _is_typo(typed: str, known: str) -> bool:
    """Whether one text is the other with so few slips as its length allows."""
    if not typed or not known:
        return False
    shorter = min(len(typed), len(known))
    if typed[0] == known[0]:
        return _distance(typed, known, _slips(shorter)) is not None
    # Another first letter is another word (cpu and gpu), unless it is the only slip of a long one.
    is_swapped = shorter >= 2 and sorted(typed) == sorted(known)
    is_only_slip = shorter >= 5 or (shorter >= 3 and (is_swapped or len(typed) != len(known)))
    return is_only_slip and _distance(typed, known, 1) is not None


def _slips(length: int) -> int:
    """How many slips of the fingers a text of so many letters may have."""
    return next((slips for slips, longest in enumerate((2, 5, 8, 12)) if length <= longest), 4)


def _distance(left: str, right: str, most: int) -> int | None:
    """Letters inserted, missing, replaced or swapped with the next; None for more than `most`."""
    # A slip changes two kinds of letters at most: most names are told apart by that alone.
    if abs(len(left) - len(right)) > most or len(set(left) ^ set(right)) > 2 * most:
        return None
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, letter in enumerate(left, start=1):
        before, above, row = row, before, [i]
        for j, other in enumerate(right, start=1):
            steps = min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != other))
            if i > 1 and j > 1 and letter == right[j - 2] and other == left[i - 2]:
                steps = min(steps, above[j - 2] + 1)
            row.append(steps)
        if min(row) > most and min(before) > most:
            return None
    return row[-1] if row[-1] <= most else None
