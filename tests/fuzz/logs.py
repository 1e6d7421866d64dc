"""Pasted text."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from tests.fuzz.given import LLAMA, ROOT, as_file
from tests.fuzz.mutate import mutated_bytes
from tests.fuzz.values import TEXTS

_PIECES = (
    "Traceback (most recent call last):\n",
    '  File "/x/run.py", line 10, in main\n    out = model(**inputs)\n',
    "The above exception was the direct cause of the following exception:\n\n",
    "During handling of the above exception, another exception occurred:\n\n",
    "  [Previous line repeated 996 more times]\n",
    "    ^^^^^^^^^^^\n",
    "--> 12 x = y      \n",
    "╭───────── Traceback (most recent call last) ─────────╮\n",
    "│ /x/run.py:10 in main                                 │\n",
    "╰──────────────────────────────────────────────────────╯\n",
    "[rank0]: ",
    "2024-01-01 00:00:00,000 ERROR ",
    "RuntimeError: CUDA error: device-side assert triggered\n",
    "\x1b[31mRuntimeError\x1b[0m: ",
    "---------------------------------------------------------------------------\n",
    "(EngineCore_0 pid=1) ",
)


@cache
def _texts() -> tuple[bytes, ...]:
    folder = ROOT / "tests" / "diagnosis" / "texts"
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.txt")))


def pasted(rng: Random) -> dict[str, Any]:
    """Tracebacks cut, mixed, repeated and broken."""
    parts = [rng.choice(_texts())]
    for _ in range(rng.choice((0, 1, 3, 10))):
        part = rng.choice((*_PIECES, rng.choice(TEXTS))).encode("utf-8", errors="surrogatepass")
        parts.insert(rng.randint(0, len(parts)), part * rng.choice((1, 1, 1, 3, 400)))
    data = b"".join(parts)
    if rng.random() < 0.8:
        data = mutated_bytes(rng, data)
    argv = ["explain", "log.txt"]
    files: dict[str, Any] = {"log.txt": as_file(data)}
    if rng.random() < 0.3:
        argv.append("--json")
    if rng.random() < 0.06:
        files |= {**LLAMA, "m.yaml": "model: ./llama\ndevice_map:\n  model: 0\n  lm_head: 1\n"}
        argv += ["--map", "m.yaml"]
    if rng.random() < 0.2:
        return {"files": {}, "run": ["explain", "-"], "stdin": files["log.txt"]}
    return {"files": files, "run": argv}
