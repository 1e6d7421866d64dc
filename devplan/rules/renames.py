"""What an unknown name in a map was probably meant to be.

Releases of transformers move modules: ``visual`` became ``model.visual``, ``model.layers.0`` of a
vision-language model ``model.language_model.layers.0``, ``language_model.model.norm``
``model.language_model.norm``.  The parts of the name stay, some are added, dropped or change
places, and the end remains.  So a candidate for an unknown name is a module that

* ends in the same part (for a number: in the same two parts), and
* has all parts of the unknown name in their order with others between them, or the reverse, or
  the same parts in another order,

and the best candidates are those with the fewest parts added or dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Renames:
    """Finds candidates among the names of a model."""

    def __init__(self, names: Iterable[str]) -> None:
        self._by_end: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for name in names:
            parts = tuple(name.split("."))
            self._by_end.setdefault(_end(parts), []).append(parts)

    def candidates(self, name: str) -> tuple[str, ...]:
        """The most probable new names; none, one, or several equally good ones."""
        parts = tuple(name.split("."))
        related = [c for c in self._by_end.get(_end(parts), ()) if _is_related(parts, c)]
        fewest = min((_changes(parts, candidate) for candidate in related), default=0)
        return tuple(".".join(c) for c in related if _changes(parts, c) == fewest)


def _end(parts: tuple[str, ...]) -> tuple[str, ...]:
    return parts[-2:] if parts[-1].isdecimal() else parts[-1:]


def _is_related(old: tuple[str, ...], new: tuple[str, ...]) -> bool:
    if old == new:
        return False
    return _is_part_of(old, new) or _is_part_of(new, old) or sorted(old) == sorted(new)


def _is_part_of(short: Sequence[str], long: Sequence[str]) -> bool:
    """Whether `short` can be had from `long` by leaving parts out."""
    remaining = iter(long)
    return all(part in remaining for part in short)


def _changes(old: tuple[str, ...], new: tuple[str, ...]) -> int:
    return abs(len(old) - len(new))


def moved_prefix(old: str, new: str) -> tuple[str, str]:
    """What differs between two names before their common end: one rename of many entries."""
    old_parts, new_parts = old.split("."), new.split(".")
    while old_parts and new_parts and old_parts[-1] == new_parts[-1]:
        old_parts.pop()
        new_parts.pop()
    return ".".join(old_parts), ".".join(new_parts)
