"""Whether items fit into slots when stages need not be contiguous: an exact search with a budget.

Items of the same size and activations are one *class*; the layers of a model have few, so the state
of the search is how many of each class are left.  Slots are filled one after another, the smallest
first, and only with *maximal* patterns (no further item would fit): if anything fits, something
fits in which every slot but the last ones is filled so, since an item may always move to an
earlier slot that has room for it.  States that failed are remembered.  Slots of equal room take
their patterns in falling order.

The number of steps (partial patterns looked at) is limited; beyond it the answer is "not known".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Pattern = tuple[int, ...]
"""How many items of each class."""


class TooManyStepsError(Exception):
    """The search was given up: nothing is known."""


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Items that need the same, heaviest first."""

    sizes: tuple[int, ...]
    """Bytes of an item of each class."""
    counts: Pattern
    levels: tuple[int, ...]
    """Rank of the activations of each class; a slot has a room for every level, as what needs most
    on it takes from the room of all."""


@dataclass
class _Search:
    classes: Classes
    rooms: tuple[tuple[int, ...], ...]
    """Of every slot, by level."""
    steps_left: int
    failed: set

    def fill(self, slot: int, left: Pattern, ceiling: Pattern | None) -> list[Pattern] | None:
        """Patterns for this slot and all later ones that hold what is left, or None."""
        if not any(left):
            return [(0,) * len(left)] * (len(self.rooms) - slot)
        if slot == len(self.rooms) or self._volume(left) > self._most_room(slot, left):
            return None
        key = (slot, left, ceiling)
        if key in self.failed:
            return None
        for pattern in self._maximal_patterns(left, self.rooms[slot], (), 0, 0):
            if ceiling is not None and pattern > ceiling:
                continue
            rest = tuple(a - b for a, b in zip(left, pattern, strict=True))
            found = self.fill(slot + 1, rest, self._next_ceiling(slot, pattern))
            if found is not None:
                return [pattern, *found]
        self.failed.add(key)
        return None

    def _maximal_patterns(
        self, left: Pattern, rooms: tuple[int, ...], taken: Pattern, used: int, level: int
    ) -> Iterator[Pattern]:
        """Every choice that fits into the room and to which no item left could be added.

        Goes on from the classes chosen already, in falling order: many large items first.
        """
        self.steps_left -= 1
        if self.steps_left < 0:
            raise TooManyStepsError
        index = len(taken)
        if index == len(left):
            if not self._has_place(left, rooms, taken, used, level):
                yield taken
            return
        size, raised = self.classes.sizes[index], max(level, self.classes.levels[index])
        room = rooms[raised] - used
        fitting = left[index] if size == 0 else room // size
        most = min(left[index], max(fitting, 0)) if room >= 0 else 0
        for count in self._worth_trying(index, most):
            at = raised if count else level
            yield from self._maximal_patterns(left, rooms, (*taken, count), used + count * size, at)

    def _worth_trying(self, index: int, most: int) -> Sequence[int]:
        """Numbers of items of a class, the largest first; fewer may leave room for later ones."""
        if index == len(self.classes.sizes) - 1:
            return (most,)  # fewer would not be maximal
        if self.classes.sizes[index] == 0:
            return (most, 0) if most else (0,)
        return range(most, -1, -1)

    def _has_place(
        self, left: Pattern, rooms: tuple[int, ...], taken: Pattern, used: int, level: int
    ) -> bool:
        """Whether some item that is left fits beside what was taken."""
        rows = zip(left, taken, self.classes.sizes, self.classes.levels, strict=True)
        return any(
            count > held and used + size <= rooms[max(level, needed)]
            for count, held, size, needed in rows
        )

    def _next_ceiling(self, slot: int, pattern: Pattern) -> Pattern | None:
        same = slot + 1 < len(self.rooms) and self.rooms[slot + 1] == self.rooms[slot]
        return pattern if same else None

    def _volume(self, left: Pattern) -> int:
        return sum(size * count for size, count in zip(self.classes.sizes, left, strict=True))

    def _most_room(self, slot: int, left: Pattern) -> int:
        """What this slot and all later ones hold at most of what is left."""
        pairs = zip(left, self.classes.levels, strict=True)
        least = min(level for count, level in pairs if count)
        return sum(max(rooms[least], 0) for rooms in self.rooms[slot:])


def fill_slots(
    classes: Classes, rooms: Sequence[Sequence[int]], *, max_steps: int
) -> list[Pattern] | None:
    """How many items of each class every slot takes, or None when they do not fit.

    Parameters
    ----------
    classes
        The items; sizes fall.
    rooms
        Bytes that each slot may still take when nothing on it needs more than a level; may be
        negative, and never rise with the level.
    max_steps
        Partial patterns to look at before giving up.

    Raises
    ------
    TooManyStepsError
        When the search was given up.
    """
    if any(room[0] < 0 for room in rooms):
        return None
    order = sorted(range(len(rooms)), key=lambda slot: tuple(rooms[slot]))
    search = _Search(classes, tuple(tuple(rooms[slot]) for slot in order), max_steps, set())
    filled = search.fill(0, classes.counts, None)
    if filled is None:
        return None
    return [pattern for _, pattern in sorted(zip(order, filled, strict=True))]
