"""What is told of a virtual run while it happens.

A run (`devplan.virtual.run.Run`) calls the methods of its observers, always in their order:

    begin                                    the model lies on its devices; nothing has run
      turn                                   a phase begins
      enter                                  a block is called
        start, then finish or abandon        its own code runs, to its end or until it raises
        repeat, filled, repeated             or it is folded: a call that ran stands for it
      gave                                   a call of the whole model, or of a part, gave this
    end                                      the call came to its end, also by an exception
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devplan.virtual.folding import Outcome
    from devplan.virtual.run import Run


class Observer:
    """Notes something about a run; what it does not override is nothing to it.

    Attributes
    ----------
    run : Run
        The run that it is told of, from `begin` on.
    """

    run: Run

    def begin(self, run: Run) -> None:
        """Weights and inputs lie where they belong, and the model is about to be called."""
        self.run = run

    def turn(self, phase: str) -> None:
        """A phase is about to begin; `Run.phase` is still the one before."""

    def gave(self, part: str, result: Any) -> None:
        """A call of the whole model (`part` is empty), or of a part, gave this."""

    def enter(self, block: str, args: tuple, kwargs: Mapping[str, Any]) -> None:
        """A block is called with these arguments, which no hook has moved yet."""

    def start(self, block: str) -> None:
        """The block's own code is about to run."""

    def finish(self, block: str, result: Any, outcome: Outcome | None) -> Any:
        """The block's own code gave this.

        Returns
        -------
        Any
            What `repeat` and `filled` are given for each call that this one stands for.
        """

    def abandon(self, block: str) -> None:
        """The block's own code raised."""

    def repeat(self, block: str, ran: str, noted: Any) -> None:
        """A block takes over what block `ran` gave; `noted` is what `finish` returned there."""

    def filled(self, block: str, noted: Any) -> None:
        """The cache holds what the folded block would have put there."""

    def repeated(self, block: str, result: Any, noted: Any) -> None:
        """The folded block has given this."""

    def end(self, is_complete: bool) -> None:
        """The call is over; `is_complete` is false where the model's code raised."""
