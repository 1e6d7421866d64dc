"""One suggestion in a process of its own.

``python -m benchmarks.one_suggest MODEL GPUS TOKENS [packed]``

Prints a line of JSON: seconds after imports (by the clock and of the process), peak memory, what
came of it, and the seconds that transformers takes for the same model to build it on the meta
device and to choose an ``auto`` map.  A suggestion for a small model comes first and brings in what
is imported late.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.peers import AUTO
from devplan.core.types import Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.workflows.suggesting import Suggestion, suggest

SMALL = "Qwen/Qwen2-VL-2B-Instruct"


def main(model: str, gpus: str, tokens: str, *packed: str) -> None:
    """Warm up, suggest, print."""
    machine, request = parse_gpus(gpus), Workload(context=int(tokens))
    suggest(SMALL, parse_gpus("8GiB,8GiB"), Workload(context=256))
    start, cpu_start = time.perf_counter(), time.process_time()
    found = suggest(model, machine, request, packed=bool(packed))
    wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    AUTO["transformers auto"](build_skeleton(resolve(model), None).model, machine)
    told = {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "peak_bytes": peak_bytes,
        "peer_s": time.perf_counter() - start,
        "status": found.map_file.verification.status if found.map_file else "does not fit",
        "constraints": len(found.map_file.constraints) if found.map_file else 0,
        "answer": _answer(found),
    }
    print(json.dumps(told))


def _answer(found: Suggestion) -> str:
    """The share of the fullest card, or what is missing."""
    if isinstance(found.result, Plan):
        return f"fits, {found.result.certificate.bottleneck:.1%} of the fullest card"
    return found.result.reason


if __name__ == "__main__":
    main(*sys.argv[1:])
