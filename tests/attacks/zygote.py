"""A process that has imported everything and is copied for each attack.

It reads a request a line and answers with a line.  The copy has its own memory, limits and
descriptors, and may be killed by what it runs; it begins in milliseconds.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.attacks.guard import Outcome, Request

ROOT = Path(__file__).parents[2]
TIMED_OUT = -1000
PATIENCE = 4.0
"""Times the limit of an attack before it is killed: a machine that is shared is no hang."""


class Zygote:
    """The other end, in the process of the tests."""

    def __init__(self) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="devplan-attacks-")
        environment = {
            **os.environ,
            "HF_HOME": self._home.name,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "CI", "GITHUB_ACTIONS"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.zygote"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def import_first(self, modules: Sequence[str]) -> None:
        """Import more, so that copies have it."""
        self._ask({"import": list(modules)})

    def run(self, request: Request, *, seconds: float, interrupt: float | None = None) -> Outcome:
        """Run one command in a copy; well past `seconds` it is killed."""
        asked = {"request": asdict(request), "seconds": seconds, "interrupt": interrupt}
        return Outcome(**self._ask(asked))

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)
        self._home.cleanup()


def warm_up() -> None:
    """Import what commands import, so that a copy need not."""
    import torch

    torch.set_num_threads(1)
    for name in (
        "accelerate.hooks",
        "accelerate.big_modeling",
        "transformers.modeling_utils",
        "transformers.models.llama.modeling_llama",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.processing_auto",
        "transformers.generation.utils",
        "networkx",
        "rich.console",
        "tests.sources.hub_server",
    ):
        importlib.import_module(name)
    for path in sorted((ROOT / "devplan").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] not in ("__init__", "__main__"):
            importlib.import_module(".".join(parts))
    _warm_commands()


def _warm_commands() -> None:
    """Much is imported by the first command of a process only."""
    from devplan.cli.app import main
    from tests.attacks.making import copy_seed

    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere:
        model = Path(folder) / "llama"
        copy_seed("llama", model)
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            main(["explain", "DP301"])
            main(["explain", os.devnull])
            main(["suggest", str(model), "--gpus", "1GiB", "--context", "32", "-o", "-"])


def serve() -> None:
    """Answer until stdin ends."""
    from tests.attacks import guard

    warm_up()
    guard.arm()
    gc.collect()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        for name in asked.get("import", ()):
            importlib.import_module(name)
        answer = asdict(_copied(asked)) if "request" in asked else {}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _copied(asked: dict[str, Any]) -> Outcome:
    request = Request(**asked["request"])
    report = Path(request.root) / "outcome.json"
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_the_copy(request, report)
    deadline = started + asked["seconds"] * PATIENCE
    interrupt = asked["interrupt"]
    while True:
        gone, status, usage = os.wait4(child, os.WNOHANG)
        if gone:
            break
        now = time.monotonic()
        if interrupt is not None and now - started > interrupt:
            os.kill(child, signal.SIGINT)
            interrupt = None
        if now > deadline:
            os.kill(child, signal.SIGKILL)
            os.wait4(child, 0)
            return Outcome(status=TIMED_OUT, seconds=now - started)
        time.sleep(0.002)
    if report.exists():
        return Outcome(**json.loads(report.read_text()))
    peak = usage.ru_maxrss / 1024
    return Outcome(
        status=os.waitstatus_to_exitcode(status),
        seconds=time.monotonic() - started,
        peak_mib=peak,
        strayed=["the process died"],
    )


def _be_the_copy(request: Request, report: Path) -> None:
    from tests.attacks import guard

    # [background] a shell that starts this in the background has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.suppress(BaseException):
        outcome = guard.call(request)
        report.write_text(json.dumps(asdict(outcome)))
    os._exit(0)


if __name__ == "__main__":
    serve()
