"""Inputs run in processes that are watched: many in one, which is killed where one does not end.

The parent has imported everything and does nothing else, so that its copies begin at once.  A copy
says which input it begins, and answers with a line when that has ended.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.attacks import guard
from tests.attacks.attack import Attack, Must
from tests.attacks.judging import complaints, seen_files, stray_files, written_by
from tests.attacks.making import make_files, make_world
from tests.attacks.trying import request_of
from tests.fuzz.inputs import make_input

BATCH = 200
"""Inputs of one copy: what one input leaves behind is there for the next ones to stumble over."""
CPU_S = 10.0
KILL_CPU_S = 25.0
KILL_S = 150.0
"""Passed; a machine that is shared is no hang, but a process that sleeps is one."""
MIB = 1024.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of an input."""

    number: int
    kind: str
    status: int | None = None
    seconds: float = 0.0
    mib: float = 0.0
    found: list[str] = field(default_factory=list)
    """What is wrong; nothing for a good one."""


def run_input(content: dict[str, Any], root: Path) -> tuple[guard.Outcome, list[str]]:
    """One input in this process, and what is wrong with what became of it."""
    here = make_world(root)
    attack = Attack(name="fuzz", what="", must=Must(), **{**content, "run": tuple(content["run"])})
    try:
        make_files(here, attack.files)
        request = request_of(attack, root)
        before = seen_files(root)
        outcome = guard.call(request)
        found = complaints(attack.run, outcome, seconds=CPU_S, mib=MIB)
        allowed = written_by(attack.run, outcome.status)
        found += stray_files(before, seen_files(root), allowed, hub=attack.hub is not None)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return outcome, found


def run_all(seed: str, numbers: Sequence[int], processes: int = 2) -> Iterator[Result]:
    """The results of inputs, as they come."""
    waiting = list(numbers)
    running: list[_Copy] = []
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_Copy(seed, waiting[:BATCH]))
                del waiting[:BATCH]
            readable, _, _ = select.select([copy.pipe for copy in running], [], [], 1.0)
            for copy in list(running):
                if copy.pipe in readable:
                    yield from copy.read()
                else:
                    yield from copy.watch()
                if copy.is_over:
                    running.remove(copy)
                    waiting[:0] = copy.left
    finally:
        for copy in running:
            copy.kill()


class _Copy:
    """A copy of this process at work."""

    def __init__(self, seed: str, numbers: Sequence[int]) -> None:
        self.seed, self.left, self.is_over = seed, list(numbers), False
        self.folder = tempfile.mkdtemp(prefix="devplan-fuzz-", dir=_fast_folder())
        self.pipe, ours = os.pipe()
        self._rest = b""
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.pipe)
            _work(seed, numbers, Path(self.folder), ours)
        os.close(ours)
        self._begun(None)

    def _begun(self, number: int | None) -> None:
        self.number, self.since, self.cpu = number, time.monotonic(), _cpu_seconds(self.pid)

    def read(self) -> Iterator[Result]:
        data = os.read(self.pipe, 1 << 16)
        if not data:
            yield from self._ended()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "begin" in said:
                self._begun(said["begin"])
            else:
                self.left.remove(said["number"])
                self.number = None
                yield Result(**said)

    def _ended(self) -> Iterator[Result]:
        _, status = os.waitpid(self.pid, 0)
        self._close()
        if self.number is not None:
            code = os.waitstatus_to_exitcode(status)
            yield self._failed(f"the process died with {code}")

    def watch(self) -> Iterator[Result]:
        passed, cpu = time.monotonic() - self.since, _cpu_seconds(self.pid) - self.cpu
        if self.number is not None and (cpu > KILL_CPU_S or passed > KILL_S):
            self.kill()
            yield self._failed(f"did not end in {cpu:.0f} s of CPU, {passed:.0f} s")

    def _failed(self, why: str) -> Result:
        number, self.number = self.number, None
        self.left.remove(number)
        kind, _ = make_input(self.seed, number)
        return Result(number=number, kind=kind, found=[why])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._close()

    def _close(self) -> None:
        self.is_over = True
        os.close(self.pipe)
        shutil.rmtree(self.folder, ignore_errors=True)


def _work(seed: str, numbers: Sequence[int], folder: Path, pipe: int) -> None:
    """Run inputs until one leaves something behind that the next would stumble over."""
    status = 1
    try:
        with os.fdopen(pipe, "w") as answers:
            for number in numbers:
                print(json.dumps({"begin": number}), file=answers, flush=True)
                kind, content = make_input(seed, number)
                outcome, found = run_input(content, folder / str(number))
                result = Result(
                    number=number,
                    kind=kind,
                    status=outcome.status,
                    seconds=outcome.seconds,
                    mib=outcome.peak_mib,
                    found=[line[:400] for line in found],
                )
                print(json.dumps(asdict(result)), file=answers, flush=True)
                if outcome.strayed:
                    break
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fast_folder() -> str | None:
    """Memory in the place of a disk, where there is some."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
