"""One suggestion in a process of its own: ``python -m benchmarks.one_suggest MODEL GPUS TOKENS``.

Prints a line of JSON: seconds after imports, peak memory, what came of it, and the seconds that
transformers takes for the same model to build it on the meta device and to choose an ``auto`` map.
A suggestion for a small model comes first and brings in what is imported late.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from benchmarks.peers import AUTO
from devplan.machine import parse_gpus
from devplan.skeleton import build_skeleton
from devplan.sources import resolve
from devplan.suggest import suggest
from devplan.workload import WorkloadRequest

SMALL = "Qwen/Qwen2-VL-2B-Instruct"


def main(model: str, gpus: str, tokens: str) -> None:
    """Warm up, suggest, print."""
    machine, request = parse_gpus(gpus), WorkloadRequest(context_tokens=int(tokens))
    suggest(SMALL, parse_gpus("8GiB,8GiB"), WorkloadRequest(context_tokens=256))
    start = time.perf_counter()
    found = suggest(model, machine, request)
    wall_s = time.perf_counter() - start
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    start = time.perf_counter()
    AUTO["transformers auto"](build_skeleton(resolve(model), None).model, machine)
    told = {
        "wall_s": wall_s,
        "peak_bytes": peak_bytes,
        "peer_s": time.perf_counter() - start,
        "status": found.map_file.verification.status if found.map_file else "does not fit",
        "constraints": len(found.map_file.constraints) if found.map_file else 0,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
