"""Which model types of the installed transformers can be built, partitioned and run virtually?

    python -m tests.virtual.sweep causal seq2seq image-text > table.txt
    python -m tests.virtual.sweep llama gemma3 t5

Every type is taken at its default configuration and full size.  One line a type: what the run
showed, or where it stopped; the counts come last.  Not a test: it takes minutes and says what is
so.  The types that a test holds fast are in ``test_types.py``.
"""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections import Counter

from tests.virtual.models import TASKS, skeleton_of_type, types_of_task

LIMIT_S = 90


class TooLong(BaseException):
    """Not an Exception, so that no model's code swallows it."""


def look_at(model_type: str, task: str | None) -> tuple[str, str]:
    """(outcome, detail) of one model type."""
    from devplan.blocks import partition
    from devplan.profile.running import measure_run
    from devplan.types import Workload

    try:
        skeleton = skeleton_of_type(model_type, task)
    except Exception as error:
        return "unbuildable", _reason(error)
    sites = partition(skeleton.model, skeleton.no_split)
    start = time.perf_counter()
    run = measure_run(skeleton, sites, Workload(context_tokens=4096))
    seconds = time.perf_counter() - start
    if not run.order:
        return "failed", run.notes[0]
    detail = (
        f"{seconds:.2f} s, {len(run.order)} of {len(sites)} blocks ran, {len(run.cache)} keep a "
        f"cache, made up {len(run.made_up)}"
    )
    if not run.cache:
        return "no cache", detail
    return ("notes", f"{detail}; {'; '.join(run.notes)}") if run.notes else ("ran", detail)


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGALRM, _interrupt)
    tasks = [name for name in arguments or TASKS if name in TASKS]
    pairs = [(name, task) for task in tasks for name in types_of_task(task)]
    pairs += [(name, None) for name in arguments if name not in TASKS]
    counts: Counter[tuple[str, str]] = Counter()
    for model_type, task in pairs:
        signal.alarm(LIMIT_S)
        try:
            outcome, detail = look_at(model_type, task)
        except TooLong:
            outcome, detail = "too long", f"more than {LIMIT_S} s"
        except Exception as error:
            outcome, detail = "RAISED", _reason(error) + traceback.format_exc()[-600:]
        signal.alarm(0)
        counts[task or "named", outcome] += 1
        print(f"{task or 'named':12} {model_type:32} {outcome:12} {detail}", flush=True)
    for (task, outcome), number in sorted(counts.items()):
        print(f"{task:12} {outcome:12} {number}")


def _interrupt(*_):
    raise TooLong


if __name__ == "__main__":
    main(sys.argv[1:])
