"""The bytes of the KV cache that devplan predicts, beside the cache of a real forward.

The peers count no cache.  The twins and the count of real caches are those of the tests, which
check many more models and numbers of tokens; this is their table.
"""

from __future__ import annotations

import contextlib
import io

import torch
from torch import nn

from benchmarks.report import Report, Requirement, Table
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.models.source import Skeleton
from devplan.profile.runs import measure_run
from tests.profile.test_cache_twins import real_bytes_of_layers, real_model, run_for_real
from tests.profile.twins import TWINS, WINDOW

TOKENS = 3 * WINDOW + 5
BATCH = 2
FEWEST_KINDS = 8

SMALL = {"TWINS": {kind: dict([*models.items()][:1]) for kind, models in [*TWINS.items()][:1]}}

PROSE = f"""
For each kind of cache, tiny models of the installed transformers (four layers, a width of 32,
windows of {WINDOW} tokens), {BATCH} sequences of {TOKENS} tokens in bfloat16. *Predicted* is what
devplan says of the skeleton on the meta device, which was run virtually with other numbers of
tokens; *real* is what the same class, with real weights on the CPU, holds after a real forward.
"""


def measure() -> Report:
    """One row a model."""
    rows = [
        _row(kind, model_type, settings)
        for kind, models in TWINS.items()
        for model_type, settings in models.items()
    ]
    equal = [row for row in rows if row["equal"] == "yes"]
    kinds = {row["kind"] for row in rows} - {row["kind"] for row in rows if row not in equal}
    return Report(
        title="KV cache bytes against a real forward",
        prose=PROSE,
        tables=(Table(title="Twins", rows=rows),),
        requirements=[
            Requirement(
                text=f"every twin equal, at least {FEWEST_KINDS} kinds",
                measured=f"{len(equal)} of {len(rows)} twins, {len(kinds)} of {len(TWINS)} kinds",
                met=len(equal) == len(rows) and len(kinds) >= FEWEST_KINDS,
            )
        ],
    )


def _row(kind: str, model_type: str, settings: dict) -> dict:
    with contextlib.redirect_stderr(io.StringIO()):  # models advise on kernels that are not here
        skeleton, model = real_model(model_type, settings, torch.bfloat16)
        sites = partition(skeleton.model, skeleton.no_split)
        cache = measure_run(skeleton, sites, Workload(context=TOKENS)).cache
        real = _real_bytes(skeleton, model)
    predicted = sum(part.bytes_at(TOKENS, BATCH) for parts in cache.values() for part in parts)
    return {
        "kind": kind,
        "model type": model_type,
        "predicted bytes": f"{predicted:,}",
        "real bytes": "no real run" if real is None else f"{real:,}",
        "equal": "yes" if predicted == real else "no",
    }


def _real_bytes(skeleton: Skeleton, model: nn.Module) -> int | None:
    """What a real forward holds; None where the model's own code fails on the CPU."""
    try:
        output = run_for_real(skeleton, model, BATCH, TOKENS)
        state = output.get("state", None)  # RWKV: tensors for all layers together
        if state is not None:
            return sum(tensor.numel() * tensor.element_size() for tensor in state)
        return sum(real_bytes_of_layers(model, output).values())
    except (RuntimeError, IndexError):
        return None
