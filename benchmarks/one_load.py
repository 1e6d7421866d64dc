"""One load in a process of its own: ``python -m benchmarks.one_load WAY MAP FOLDER STAND_INS``.

Prints seconds of the wall clock and of the processor as JSON.  What both ways import is imported
before, and what only devplan imports is timed by itself.
"""

from __future__ import annotations

import json
import sys
import time

import accelerate
import torch
import transformers
import yaml


def main(way: str, map_path: str, folder: str, stand_ins: dict[str, str]) -> dict[str, float]:
    """Load by a way, and say what it took."""
    model_class = transformers.LlamaForCausalLM
    start = time.perf_counter()
    if way == "devplan":
        import devplan

        load = devplan.load
    imported = time.perf_counter()
    wall, processor = time.perf_counter(), time.process_time()
    if way == "devplan":
        model = load(folder, map_path, devices=stand_ins)
    else:
        with open(map_path, encoding="utf-8") as file:
            device_map = yaml.safe_load(file)["device_map"]
        here = {name: stand_ins[f"cuda:{index}"] for name, index in device_map.items()}
        model = model_class.from_pretrained(folder, dtype="bfloat16", device_map=here)
        if set(here.values()) == {"cpu"}:  # on cards from_pretrained itself puts the hooks on
            accelerate.dispatch_model(model, here, main_device="cpu", force_hooks=True)
    took = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - processor}
    assert model.dtype == torch.bfloat16
    return {**took, "import_s": imported - start}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], json.loads(sys.argv[4]))))
