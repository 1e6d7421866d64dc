"""Attempts in a process of its own: a task a line on stdin, a row a line on stdout.

    python -m tools.sweep.worker

What the model's code prints goes to stderr.  Beyond the memory limit an allocation fails, which is
part of the row; a process that dies of it is the parent's matter.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import sys
import warnings

MEMORY_LIMIT_BYTES = 6 * 2**30
"""Address space of the process; with torch 2.13.0 (a CPU build) and transformers imported it takes
0.7 GiB before any model is built."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    rows = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    from tools.sweep.packages import make_importable

    make_importable()
    from tools.sweep.attempt import Task, attempt

    print("ready", file=rows, flush=True)
    for line in sys.stdin:
        row = attempt(Task(**json.loads(line)))
        print(json.dumps(row.to_json()), file=rows, flush=True)


if __name__ == "__main__":
    main()
