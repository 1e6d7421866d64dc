"""One check in a process of its own: ``python -m benchmarks.one_check MODEL CLASS GPUS``.

Prints a line of JSON: seconds, phases, inputs and findings.  A check of a small model comes first
and brings in what is imported late (parts of torch, transformers' generation).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from importlib import import_module

import devplan
from devplan.checker.run_options import RunOptions
from devplan.core.workload import Workload
from devplan.inputs.request import InputRequest
from devplan.machine.parse import parse_gpus
from devplan.virtual.calls import DECODE_STEPS

TOKENS = 2048
IMAGE_SIZE = (728, 1120)
"""Pixels: with 28 to a token in Qwen2.5-VL, 26 x 40 tokens."""


def checked(model, gpus: str, run: str):
    """The result of `devplan.check` with accelerate's ``auto`` map, and its wall seconds."""
    workload = Workload(context=TOKENS + DECODE_STEPS + 1, dtype="bfloat16")
    request = InputRequest(tokens=TOKENS, image_size=IMAGE_SIZE)
    start = time.perf_counter()
    result = devplan.check(
        model,
        "auto",
        machine=parse_gpus(gpus),
        workload=workload,
        options=RunOptions(run=run, request=request),
    )
    return result, time.perf_counter() - start


def main(model: str, class_name: str, gpus: str) -> None:
    """Warm up, check, print."""
    logging.getLogger("accelerate.utils.modeling").setLevel(logging.ERROR)
    transformers = import_module("transformers")
    getattr(transformers, class_name)
    sizes = dict(hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2)
    small = transformers.LlamaConfig(**sizes, num_key_value_heads=2, vocab_size=64)
    checked(small, "1GiB,1GiB", "auto")
    _, alone_s = checked(model, gpus, "generate")
    result, wall_s = checked(model, gpus, "auto")
    run = result.runs[0]
    told = {
        "wall_s": wall_s,
        "alone_s": alone_s,
        "runs": [each.name for each in result.runs],
        "phases": run.phases,
        "inputs": run.inputs,
        "transfers": sum(event.count for event in run.transfers),
        "findings": len(result.findings),
        "error": run.error and run.error.message,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
