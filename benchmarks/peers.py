"""The planners that are installed anyway, as the benchmarks ask them: the cards and nothing else.

`devplan.checker.baselines` asks them.  No ``cpu`` is offered, so that what does not fit goes to
``disk``, which accelerate always adds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from devplan.checker.baselines import (
    CARDS_ONLY,
    accelerate_by_hand,
    from_pretrained_strategy,
)
from devplan.core.types import Machine

Peer = Callable[[nn.Module, Machine], dict[str, str]]


def _strategy(strategy: str) -> Peer:
    return partial(from_pretrained_strategy, strategy, beside=CARDS_ONLY)


AUTO: Mapping[str, Peer] = {
    "accelerate auto": partial(accelerate_by_hand, beside=CARDS_ONLY),
    "transformers auto": _strategy("auto"),
}
PEERS: Mapping[str, Peer] = {
    **AUTO,
    "transformers sequential": _strategy("sequential"),
    "transformers balanced_low_0": _strategy("balanced_low_0"),
}
