"""Maps of one model side by side.

A map is *judged*: run virtually on its machine, checked by every rule, its bytes counted card by
card, its copies counted as the run made them, and the most tokens foretold that it holds.
`diff` judges two maps and says where they differ; `compare` judges devplan's map beside those of
the planners that are installed anyway (`devplan.peers`).
"""

from devplan.comparing.changes import Change, MapDiff, diff
from devplan.comparing.contest import Comparison, Contender, compare
from devplan.comparing.judged import Judged, Traffic

__all__ = [
    "Change",
    "Comparison",
    "Contender",
    "Judged",
    "MapDiff",
    "Traffic",
    "compare",
    "diff",
]
