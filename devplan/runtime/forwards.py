"""What one thread knows of the forward of a cached model that it is in."""

from __future__ import annotations

import sys
import threading

from torch import nn

from devplan.runtime.copies import Copies
from devplan.runtime.counts import TransferCounts


class ThreadState(threading.local):
    """The copies, the counters, and the modules whose forward is running."""

    def __init__(self) -> None:
        self.copies = Copies()
        self.open: list[int] = []
        """Ids of the modules whose forward is running, the outermost first."""
        self.restart()

    def restart(self) -> None:
        self.open.clear()
        self.copies.clear()
        self.num_asked = self.asked_bytes = self.num_made = self.made_bytes = 0

    def close(self, module: int) -> bool:
        """End a module's forward, and those inside it that did not say so; whether it was open."""
        if module not in self.open:  # it ended before it began: a hook before ours raised
            return False
        while self.open.pop() != module:
            pass
        return True

    def keep_open(self, running: set[int]) -> None:
        self.open = [module for module in self.open if module in running]
        if not self.open:
            self.restart()

    def count(self, num_bytes: int, made: bool) -> None:
        self.num_asked += 1
        self.asked_bytes += num_bytes
        if made:
            self.num_made += 1
            self.made_bytes += num_bytes

    def counts(self) -> TransferCounts:
        return TransferCounts(
            num_forwards=1,
            num_asked=self.num_asked,
            asked_bytes=self.asked_bytes,
            num_made=self.num_made,
            made_bytes=self.made_bytes,
        )


def running_modules() -> set[int]:
    """Ids of the modules that are called in this thread, but for the one whose hook asks."""
    frame, running = sys._getframe(1), []
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            running.append(id(frame.f_locals["self"]))
        frame = frame.f_back
    return set(running[1:])
