"""All types, each in a process of its own with limits of time and memory.

Processes are forked from one that has imported everything, so that a type costs what it costs and
leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from tools.differential.row import Row, Stage
from tools.sweep.packages import make_importable

LIMIT_S = 120
"""Of the processor, for one type: 30 times what most take."""
LATE_S = 900
"""Of the clock, for one that waits."""
MEMORY_LIMIT_BYTES = 8 * 2**30
"""Address space of a process."""


_WARM = "bert"


@dataclass(frozen=True, kw_only=True)
class _Running:
    model_type: str
    process: BaseProcess
    started: float

    def is_late(self) -> bool:
        return time.monotonic() - self.started > LATE_S


def gather(
    classes: Mapping[str, str], types: Sequence[str], *, processes: int, log: Path
) -> Iterator[Row]:
    """The row of each type, as it comes; what the models say goes to `log`."""
    _warm_up(classes)
    waiting = list(reversed(types))
    running: dict[Connection, _Running] = {}
    scratch = tempfile.mkdtemp(prefix="devplan-differential-")
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                model_type = waiting.pop()
                pipe, process = _start(model_type, classes[model_type], log, scratch)
                running[pipe] = _Running(
                    model_type=model_type, process=process, started=time.monotonic()
                )
            ready = wait(list(running), timeout=1)
            for pipe in [pipe for pipe, each in running.items() if pipe in ready or each.is_late()]:
                yield _ended(pipe, running.pop(pipe), classes)
    finally:
        for each in running.values():
            each.process.kill()
            each.process.join()
        shutil.rmtree(scratch)  # with what processes that were killed left in it


def _warm_up(classes: Mapping[str, str]) -> None:
    """One type in this process: what it imports and compiles, no other has to."""
    make_importable()
    from tools.differential.attempt import attempt

    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        attempt(_WARM, classes[_WARM])


def _ended(pipe: Connection, running: _Running, classes: Mapping[str, str]) -> Row:
    """The row that a process sent; one that is late or died is a row too."""
    row = None
    if pipe.poll():
        with contextlib.suppress(EOFError):
            row = pipe.recv()
    if running.is_late():
        running.process.kill()
    running.process.join()
    pipe.close()
    if row is not None:
        return row
    late = running.is_late() or running.process.exitcode == -signal.SIGXCPU
    return Row(
        model_type=running.model_type,
        class_name=classes[running.model_type],
        stage=Stage.TIME if late else Stage.MEMORY,
        reason=f"not done after {LIMIT_S} s of the processor" if late else "the process died",
        seconds=round(time.monotonic() - running.started, 1),
    )


def _start(
    model_type: str, class_name: str, log: Path, scratch: str
) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, model_type, class_name, log, scratch))
    process.start()
    there.close()
    return here, process


def _child(pipe: Connection, model_type: str, class_name: str, log: Path, scratch: str) -> None:
    from tools.differential.attempt import attempt

    said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    tempfile.tempdir = scratch
    spent = int(sum(os.times()[:2]))
    resource.setrlimit(resource.RLIMIT_CPU, (spent + LIMIT_S, spent + LIMIT_S))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    pipe.send(attempt(model_type, class_name))
