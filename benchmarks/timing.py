"""Best times of several ways to do the same, taken in turns.

The ways alternate, so that a slow moment of the machine meets all of them, and the smallest time
counts: everything that lengthens a run comes from outside.  Time is that of the process: planners
neither wait nor compute in threads, and what else the machine does should not show.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


def best_times_ms(ways: Mapping[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Name -> smallest time of that many rounds."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(num_rounds):
        for name, run in ways.items():
            gc.collect()  # what one way leaves behind must not be collected in another's time
            start = time.process_time()
            run()
            best[name] = min(best[name], 1e3 * (time.process_time() - start))
    return best
