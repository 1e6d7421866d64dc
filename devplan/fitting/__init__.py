"""What fits where: the inverse questions, for who buys or rents the cards.

An *offer* is a machine to choose from: one that was named, or the fewest cards of a kind that
suffice.  Every offer is tried with every *precision* of the model; a *row* is one pair with its
three *answers*, each of them a plan of the exact planner:

* at the workload that was asked: does it fit, and at which share;
* the most tokens per sequence at the batch that was asked;
* the most sequences at the context that was asked.

Of each offer the best precision that fits is *proven*: its three plans are run virtually at their
own workloads, and shrink where a run needs more than was foretold.
"""

from devplan.fitting.rows import Answer, FitResult, Offer, Row
from devplan.fitting.table import fit

__all__ = ["Answer", "FitResult", "Offer", "Row", "fit"]
