"""One suggestion for a pipeline in a process of its own.

``python -m benchmarks.one_pipeline MODEL GPUS DTYPE TILING`` prints a line of JSON: seconds of the
processor after imports, peak memory, what came of it, and the seconds that building the same
classes on the meta device takes, without which nothing can be known of them.
"""

from __future__ import annotations

import json
import resource
import sys
import time

from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve
from devplan.workflows.suggesting import suggest


def main(model: str, gpus: str, dtype: str, tiling: str) -> None:
    """Build once, which brings in what is imported late; build again, suggest, print."""
    build_skeleton(resolve(model), dtype)
    start = time.process_time()
    build_skeleton(resolve(model), dtype)
    build_s = time.process_time() - start
    request = Workload(dtype=dtype, tiling=tiling == "tiled")
    start = time.process_time()
    found = suggest(model, parse_gpus(gpus), request)
    told = {
        "cpu_s": time.process_time() - start,
        "build_s": build_s,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "status": found.map_file.verification.status if found.map_file else "does not fit",
        "size": found.workload.image_size,
        "frames": found.workload.frames,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
