"""Makes inputs for every model type of the installed transformers, and runs them virtually.

    python -m tests.inputs.sweep [-o rows.jsonl] [model types]

A row a type: whether the model ran, what the inputs contained, or which error was raised where.
"""

from __future__ import annotations

import contextlib
import copy
import json
import logging
import signal
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

from devplan.blocks import partition
from devplan.inputs import InputRequest, example_inputs
from devplan.inputs.example import has_forward
from devplan.inputs.probe import describe
from devplan.skeleton.build import _dtype_keyword, declared_no_split
from devplan.virtual.folding import layer_kinds
from devplan.virtual.tracing import run_traced
from tests.inputs.configs import USABLE

LIMIT_S = 60
"""For building, probing and running one type."""

_WHOLE = tuple(
    f"MODEL_FOR_{task}_MAPPING_NAMES"
    for task in (
        "IMAGE_TEXT_TO_TEXT",
        "MULTIMODAL_LM",
        "SPEECH_SEQ_2_SEQ",
        "SEQ_TO_SEQ_CAUSAL_LM",
        "CAUSAL_LM",
        "ZERO_SHOT_IMAGE_CLASSIFICATION",
        "ZERO_SHOT_OBJECT_DETECTION",
        "OBJECT_DETECTION",
        "UNIVERSAL_SEGMENTATION",
        "MASK_GENERATION",
        "MASKED_LM",
        "IMAGE_CLASSIFICATION",
        "CTC",
        "AUDIO_CLASSIFICATION",
        "TEXT_TO_WAVEFORM",
        "DEPTH_ESTIMATION",
        "TIME_SERIES_PREDICTION",
    )
)
"""Tasks whose class is the whole model; the base class comes after them, other tasks last."""


def model_classes() -> dict[str, str]:
    """Model type -> name of its most complete class, for each type that has one."""
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto

    tables = [name for name in dir(modeling_auto) if name.endswith("_MAPPING_NAMES")]
    others = [name for name in tables if name.startswith("MODEL_FOR_") and name not in _WHOLE]
    order = [*_WHOLE, "MODEL_MAPPING_NAMES", *others]
    found: dict[str, str] = {}
    for model_type in CONFIG_MAPPING:
        for table in order:
            name = getattr(modeling_auto, table, {}).get(model_type)
            if name is not None:
                found[model_type] = name if isinstance(name, str) else name[0]
                break
    return found


class OutOfTime(BaseException):
    """Not an `Exception`: probes take those for answers."""


def try_type(model_type: str, class_name: str, request: InputRequest) -> dict:
    """One row of the table; in float32 where bfloat16 does not run."""
    row = _try_dtype(model_type, class_name, request, torch.bfloat16)
    if row["stage"] == "run":
        other = _try_dtype(model_type, class_name, request, torch.float32)
        return {**other, "bfloat16": row["error"]} if other["stage"] == "ran" else row
    return row


def _try_dtype(model_type: str, class_name: str, request: InputRequest, dtype) -> dict:
    row = {"type": model_type, "class": class_name, "stage": "build"}
    started = time.monotonic()
    try:
        model, config = _build(model_type, class_name, dtype)
        row["stage"] = "inputs"
        example = example_inputs(model, config, request)
        row["modalities"], row["notes"] = list(example.modalities), list(example.notes)
        row["shapes"] = {
            name: list(value.shape) if isinstance(value, torch.Tensor) else repr(value)
            for name, value in example.kwargs.items()
        }
        row["inputs_s"] = round(time.monotonic() - started, 2)
        row["stage"] = "run" if has_forward(model) else "no forward"
        if not has_forward(model):
            return row
        sites = partition(model, declared_no_split(model))
        trace = run_traced(model, sites, example.kwargs, kinds=layer_kinds(sites, config))
        row["stage"], row["ops"] = "ran", trace.num_ops
    except OutOfTime:
        row["error"] = f"not done after {LIMIT_S} s"
    except Exception as error:
        row["error"] = describe(error)
        if row["stage"] == "build" and isinstance(error, ImportError):
            row["stage"] = "package"
    row["s"] = round(time.monotonic() - started, 2)
    return row


def _build(model_type: str, class_name: str, dtype: torch.dtype):
    import transformers

    model_class = getattr(transformers, class_name)
    config = transformers.CONFIG_MAPPING[model_type](**copy.deepcopy(USABLE.get(model_type, {})))
    _fit_widths(config)
    with torch.device("meta"):
        model = model_class._from_config(config, **{_dtype_keyword(): dtype}).eval()
    return model, config


def _fit_widths(config) -> None:
    """Let towers end in the text's width: defaults of the two parts often differ."""
    text = getattr(config, "text_config", None)
    width = getattr(text, "hidden_size", None)
    tower = getattr(config, "vision_config", None)
    if isinstance(width, int) and hasattr(tower, "out_hidden_size"):
        tower.out_hidden_size = width


@contextlib.contextmanager
def time_limit(seconds: int):
    def stop(*_):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def sweep(types: list[str], out: Path | None, request: InputRequest) -> list[dict]:
    classes = model_classes()
    rows = []
    for model_type in types or classes:
        try:
            with time_limit(LIMIT_S):
                row = try_type(model_type, classes[model_type], request)
        except OutOfTime:
            row = {"type": model_type, "stage": "late", "error": "out of time"}
        rows.append(row)
        print(_line(row), flush=True)
        if out is not None:
            with out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return rows


def share_that_ran(rows: list[dict]) -> float:
    """Of the types that have a ``forward`` and whose packages are installed."""
    tried = [row for row in rows if row["stage"] not in ("package", "no forward")]
    return sum(row["stage"] == "ran" for row in tried) / len(tried)


def _line(row: dict) -> str:
    content = "+".join(row.get("modalities", ()))
    notes = " | ".join(row.get("notes", ()))
    return (
        f"{row['type']:28} {row['stage']:7} {row.get('s', 0):6} {content:20} "
        + (row.get("error") or "")
        + (f"  [{notes}]" if notes else "")
    )


def main(arguments: list[str]) -> None:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    out = None
    if arguments[:1] == ["-o"]:
        out, arguments = Path(arguments[1]), arguments[2:]
    rows = sweep(arguments, out, InputRequest())
    print(Counter(row["stage"] for row in rows), f"{share_that_ran(rows):.1%} ran")


if __name__ == "__main__":
    main(sys.argv[1:])
