"""The split run of example inputs: as the user asks for it, or by the first way in that works."""

from __future__ import annotations

from typing import Any

from devplan.findings import RunRecord
from devplan.inputs.request import ExampleInputs
from devplan.virtual.calls import ModelCall
from devplan.virtual.entering import run_entering
from devplan.virtual.split import SplitModel, run_split


def run_as_usual(
    split: SplitModel, example: ExampleInputs, *, call: ModelCall, **options: Any
) -> RunRecord:
    """On inputs that devplan made; what the user made is run as it is."""
    if example.source == "user":
        return run_as_asked(split, example, call=call, **options)
    return run_entering(split, example.kwargs, call=call, **options)


def run_as_asked(
    split: SplitModel, example: ExampleInputs, *, call: ModelCall, **options: Any
) -> RunRecord:
    """By this call and no other."""
    inputs = {**call.takes(split.model, example.kwargs), **_decided_by_user(example)}
    return run_split(split, inputs, call=call, **options)


def _decided_by_user(inputs: ExampleInputs) -> dict[str, Any]:
    """First tokens of the decoder, which ``generate`` makes itself where the user gives none."""
    names = ("decoder_input_ids", "decoder_attention_mask") if inputs.source == "user" else ()
    return {name: inputs.kwargs[name] for name in names if name in inputs.kwargs}
