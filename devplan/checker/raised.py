"""Calls that raised without a mismatch, made again before the map is blamed.

* With other made-up values at the lines that made some up, since one of them may have decided.
* On one GPU, since a class that raises there too raises with every map.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import nn

from devplan.checker.ways import IN_WORDS
from devplan.core import DISPATCH, MissedRun, RunRecord
from devplan.virtual import Dispatched, ModelCall, SplitModel, TooManyOps, dispatched

MOST_OTHER_WAYS = 6
"""Lines with made-up values that are tried the other way, the last first."""


@dataclass(kw_only=True)
class Done:
    """A call that was made."""

    record: RunRecord
    call: ModelCall
    again: Callable[..., RunRecord]
    """Makes it again, on a `Dispatched` model and with a few tokens."""
    way: str = ""
    """Which short call it was; empty: the one at the workload."""


def raised(record: RunRecord) -> bool:
    """Whether the model's code raised, and no mismatch may be the reason."""
    return _stopped(record) and not record.mismatches


def _stopped(record: RunRecord) -> bool:
    return record.error is not None and record.error.phase != DISPATCH


def _raises(placed: Dispatched, done: Done) -> bool:
    try:
        error = done.again(placed).error
    except TooManyOps:
        return False
    return error is not None and error.type == done.record.error.type


def other_way(placed: Dispatched, done: Done) -> RunRecord | None:
    """The run with another made-up value at one line, where the code does not raise then."""
    for line in _lines_made_up(done.record):
        try:
            record = done.again(placed, raised_at=frozenset((line,)))
        except TooManyOps:
            continue
        if record.error is None or record.mismatches:
            note = f"with the usual value made up at {line} the code raises; another was taken"
            return replace(record, name=done.record.name, notes=(*record.notes, note))
    return None


def _lines_made_up(record: RunRecord) -> Iterator[str]:
    lines = [str(value.source) for value in record.made_up if value.source is not None]
    yield from list(dict.fromkeys(reversed(lines)))[:MOST_OTHER_WAYS]


def ask_one_gpu(split: SplitModel, done: Sequence[Done]) -> tuple[list[Done], list[Done]]:
    """Find out which calls that raised raise on one GPU too.

    Returns
    -------
    tuple
        The calls, with the answer in the record of each that raised; short calls that raise there
        too, and showed no mismatch before, are apart: the class does not take them.
    """
    asked = [each for each in done if _stopped(each.record)]
    if not asked:
        return list(done), []
    with dispatched(replace(split, device_map={"": split.main_device})) as placed:
        for each in asked:
            if _raises(placed, each):
                error = replace(each.record.error, raised_whole=True)
                each.record = replace(each.record, error=error)
    refused = [
        each
        for each in asked
        if each.way and each.record.error.raised_whole and not each.record.mismatches
    ]
    return [each for each in done if each not in refused], refused


def refusal(model: nn.Module, done: Done) -> MissedRun:
    """A short call that the class does not take."""
    error = done.record.error
    reason = f"{type(model).__name__} raises {error.type}: {error.message}"
    return MissedRun(name=IN_WORDS[done.way], reason=reason, is_refused=True)
