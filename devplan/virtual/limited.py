"""A model's code is stopped once it has run as many ops as it may, whatever it catches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from devplan.core import DevplanError
from devplan.sandbox import Insistence, TimeIsUp, run_foreign

MOST_OPS = 2_000_000
"""Ops of any run, some minutes: what takes more does not end."""

_MOST_REFUSED = 100
"""Code that caught as many exceptions of ours goes round in a loop that catches everything."""


class OpsSpent(BaseException):
    """The ops are spent; no ``Exception``, as a model's code catches those."""


class TooManyOps(DevplanError):
    """A block, or the code between the blocks, ran more ops than it was allowed.

    Attributes
    ----------
    block : str | None
        The block; None for the code between them.
    """

    def __init__(self, block: str | None) -> None:
        super().__init__(f"{block or 'the code between the blocks'} loops over tokens")
        self.block = block


class OpsLimit:
    """What happens to the ops of one run that are beyond the limit.

    Attributes
    ----------
    block : str | None
        Where the limit was passed.
    num_refused : int
        Ops beyond it: more than one where the code catches what stops it.
    """

    def __init__(self) -> None:
        self.block: str | None = None
        self.num_refused = 0
        self.insistence: Insistence | None = None

    def refuse(self, block: str | None) -> NoReturn:
        """Stop an op."""
        if not self.num_refused:
            self.block = block
        self.num_refused += 1
        if self.num_refused == _MOST_REFUSED:
            self.insistence = Insistence()
            self.insistence.start()
        raise OpsSpent

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a model's code.

        Raises
        ------
        TooManyOps
            When an op was refused, whatever the code made of that.
        """
        try:
            try:
                result = run_foreign(function, *args, **kwargs)
                if not self.num_refused:
                    return result
            finally:
                self._stop_insisting()
        except (Exception, OpsSpent, TimeIsUp) as error:
            is_ours = not isinstance(error, TimeIsUp) or self.insistence is not None
            if not (self.num_refused and is_ours):
                raise
        finally:
            self._stop_insisting()
        raise TooManyOps(self.block)

    def _stop_insisting(self) -> None:
        if self.insistence is not None:
            self.insistence.stop()
