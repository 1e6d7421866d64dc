"""Whether items fit into slots when stages need not be contiguous: an exact search with a budget.

Items of the same size are one *size class*; the layers of a model have few sizes, so the state of
the search is how many of each size are left.  Slots are filled one after another, the smallest
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
"""How many items of each size class."""


class TooManyStepsError(Exception):
    """The search was given up: nothing is known."""


@dataclass
class _Search:
    sizes: tuple[int, ...]
    rooms: tuple[int, ...]
    steps_left: int
    failed: set

    def fill(self, slot: int, left: Pattern, ceiling: Pattern | None) -> list[Pattern] | None:
        """Patterns for this slot and all later ones that hold what is left, or None."""
        if not any(left):
            return [(0,) * len(left)] * (len(self.rooms) - slot)
        if slot == len(self.rooms) or self._volume(left) > sum(self.rooms[slot:]):
            return None
        key = (slot, left, ceiling)
        if key in self.failed:
            return None
        for pattern in self._maximal_patterns(left, self.rooms[slot], (), None):
            if ceiling is not None and pattern > ceiling:
                continue
            rest = tuple(a - b for a, b in zip(left, pattern, strict=True))
            found = self.fill(slot + 1, rest, self._next_ceiling(slot, pattern))
            if found is not None:
                return [pattern, *found]
        self.failed.add(key)
        return None

    def _maximal_patterns(
        self, left: Pattern, room: int, taken: Pattern, smallest_refused: int | None
    ) -> Iterator[Pattern]:
        """Every choice that fits into the room and to which no item left could be added.

        Goes on from the classes chosen already, in falling order: many large items first.  The
        smallest item that was refused must not fit in the end.
        """
        self.steps_left -= 1
        if self.steps_left < 0:
            raise TooManyStepsError
        index = len(taken)
        if index == len(self.sizes):
            if smallest_refused is None or room < smallest_refused:
                yield taken
            return
        size = self.sizes[index]
        most = left[index] if size == 0 else min(left[index], room // size)
        # Of the smallest class as many as fit are taken: fewer would not be maximal.
        fewest = most if index == len(self.sizes) - 1 else 0
        for count in range(most, fewest - 1, -1):
            refused = size if count < left[index] else smallest_refused
            yield from self._maximal_patterns(left, room - count * size, (*taken, count), refused)

    def _next_ceiling(self, slot: int, pattern: Pattern) -> Pattern | None:
        same = slot + 1 < len(self.rooms) and self.rooms[slot + 1] == self.rooms[slot]
        return pattern if same else None

    def _volume(self, left: Pattern) -> int:
        return sum(size * count for size, count in zip(self.sizes, left, strict=True))


def fill_slots(
    sizes: Sequence[int], counts: Sequence[int], rooms: Sequence[int], *, max_steps: int
) -> list[Pattern] | None:
    """How many items of each size every slot takes, or None when they do not fit.

    Parameters
    ----------
    sizes, counts
        Bytes of an item and number of items, for each class; sizes fall.
    rooms
        Bytes that each slot may still take; may be negative.
    max_steps
        Partial patterns to look at before giving up.

    Raises
    ------
    TooManyStepsError
        When the search was given up.
    """
    if any(room < 0 for room in rooms):
        return None
    order = sorted(range(len(rooms)), key=lambda slot: rooms[slot])
    search = _Search(tuple(sizes), tuple(rooms[slot] for slot in order), max_steps, set())
    filled = search.fill(0, tuple(counts), None)
    if filled is None:
        return None
    return [pattern for _, pattern in sorted(zip(order, filled, strict=True))]
