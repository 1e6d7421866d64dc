"""All types, one after the other in a worker process, within a time limit each.

Rows are kept in a file as they come; the next call goes on where the last one stopped.  A row
counts as long as devplan, the sweep and the libraries are the same; `Store.fingerprint` says so.

A type may take several attempts.  What does not run in bfloat16 is tried in float32, as some
families only ever were used in it; where ``generate`` refuses the inputs, which some classes want
to be made by their processor, ``forward`` is tried; what runs out of time or memory is tried with
few layers.
"""

from __future__ import annotations

import hashlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from devplan.mapfile.of_plan import installed_versions
from tools.sweep.attempt import Task, changes_of
from tools.sweep.packages import package_versions
from tools.sweep.row import Row, Stage, row_of

ROOT = Path(__file__).parents[2]
LIMIT_S = 120
"""For one attempt: 60 times what most take on one core."""
START_S = 120
"""For Python and its imports."""
FEW_LAYERS = 4
"""Of every stack, where the default size is out of reach."""
_CODE = ("devplan", "tools/sweep")


@dataclass(frozen=True, kw_only=True)
class Store:
    """Rows between calls: a line of JSON each, the fingerprint of what made it beside it."""

    path: Path
    fingerprint: str
    read: Callable[[dict[str, Any]], Any] = row_of
    """From what a row's ``to_json`` wrote to the row."""

    def rows(self, *, any_fingerprint: bool = False) -> dict[str, Any]:
        """Type -> its row; the last one counts."""
        if not self.path.exists():
            return {}
        lines = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())
        return {
            line["row"]["model_type"]: self.read(line["row"])
            for line in lines
            if any_fingerprint or line["fingerprint"] == self.fingerprint
        }

    def add(self, row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"fingerprint": self.fingerprint, "row": row.to_json()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def fingerprint(code: Sequence[str] = _CODE) -> str:
    """Of the code, in these folders, and the libraries that make the rows."""
    versions = {**installed_versions("transformers"), **package_versions()}
    digest = hashlib.sha256(repr(sorted(versions.items())).encode())
    for path in sorted(path for folder in code for path in (ROOT / folder).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def gather(classes: dict[str, str], types: Iterable[str]) -> Iterator[Row]:
    """The row of each type, as it comes."""
    worker = Worker()
    try:
        for model_type in types:
            yield _best_attempt(worker, Task(model_type=model_type, class_name=classes[model_type]))
    finally:
        worker.stop()


def _best_attempt(worker: Worker, task: Task) -> Row:
    """The first attempt that runs; where none does, the one at the default."""
    first = worker.attempt(task)
    row, tried = first, task
    while (following := next_task(tried, row)) is not None:
        tried = following
        row = worker.attempt(tried)
        if row.stage is Stage.RAN:
            return replace(row, reason=first.reason)
    return first


def next_task(task: Task, row: Row) -> Task | None:
    """What to try after an attempt that came to `row`; None: nothing."""
    if row.stage in (Stage.TIME, Stage.MEMORY) and task.layers is None:
        return replace(task, layers=FEW_LAYERS)
    if row.stage in (Stage.INPUTS, Stage.RUN) and task.dtype == Task.dtype:
        return replace(task, dtype="float32")
    if row.stage is Stage.RUN and task.run == Task.run and row.generated:
        return replace(task, dtype=Task.dtype, run="forward")
    return None


class Worker:
    """A process that attempts types, started when it is needed and again when it died."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.buffer = b""

    def attempt(self, task: Task) -> Row:
        """The row of one task; a dead or late worker is a row too."""
        started = time.monotonic()
        if self.process is None:
            self._start()
        assert self.process is not None
        self.process.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
        self.process.stdin.flush()
        line = self._line(LIMIT_S)
        if line is not None:
            return row_of(json.loads(line))
        late = self.process.poll() is None
        self.stop()
        return Row(
            model_type=task.model_type,
            class_name=task.class_name,
            changed=changes_of(task),
            stage=Stage.TIME if late else Stage.MEMORY,
            reason=f"not done after {LIMIT_S} s" if late else "the process died",
            seconds=round(time.monotonic() - started, 1),
        )

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> None:
        self.buffer = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tools.sweep.worker"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        ready = self._line(START_S)
        assert ready == b"ready", "the worker does not start; run python -m tools.sweep.worker"

    def _line(self, limit_s: float) -> bytes | None:
        """The next line of the worker; None when it is late or gone."""
        assert self.process is not None
        deadline = time.monotonic() + limit_s
        pipe = self.process.stdout
        while b"\n" not in self.buffer:
            readable, _, _ = select.select([pipe], [], [], max(deadline - time.monotonic(), 0))
            chunk = pipe.read1(65536) if readable else b""
            if not chunk:
                return None
            self.buffer += chunk
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line
