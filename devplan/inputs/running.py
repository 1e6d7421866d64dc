"""The split run of example inputs: as the user asks for it, or by the first way in that works."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from devplan.core import RunRecord
from devplan.inputs.request import ExampleInputs
from devplan.virtual import Dispatched, ModelCall, TooManyOps, has_forward, other_ways_in

MOST_OPS = 150_000
"""Ops that a run may take, about ten seconds: beyond, the code loops over tokens (the slow path of
state-space layers) or waits for a value that never comes."""
MOST_OPS_OF_FEW = 40_000
"""The same with few tokens, for a ``generate`` whose ``forward`` does not loop."""


def run_as_usual(
    placed: Dispatched, example: ExampleInputs, *, call: ModelCall, **options: Any
) -> RunRecord:
    """On inputs that devplan made; what the user made is run as it is."""
    if example.source == "user":
        return run_as_asked(placed, example, call=call, **options)
    return _run_entering(placed, example.kwargs, call=call, **options)


# ``generate`` of some classes requires an argument that cannot be made up: a voice of the
# checkpoint, a language to translate to. It raises before any block has run. Then ``forward`` is
# run instead or, where the class has none, the part that ``generate`` begins with, even if a
# later part raised. The record names the call that ran, and modules that it did not reach stay
# unverified.


def _run_entering(
    placed: Dispatched, inputs: Mapping[str, Any], *, call: ModelCall, **options: Any
) -> RunRecord:
    """Run a split model with inputs that were made for it, by the first way in that it takes.

    Parameters
    ----------
    placed, options
        The model on its devices, and how it is run (`Dispatched.run`).
    inputs
        All that were made; each call takes what it needs.
    call
        How the model is used.
    """
    model = placed.split.model
    first = placed.run(call.takes(model, inputs), call=call, **options)
    if first.error is None or first.mismatches or (first.executed and has_forward(model)):
        return first
    refused = []
    for other in other_ways_in(model, call):
        record = placed.run(other.takes(model, inputs), call=other, **options)
        if record.executed:
            entered = (
                f"{call.name} of {type(model).__name__} {_raised(first)}; {other.name} was run "
                "instead, and what it does not reach is unverified: give what is missing with "
                "--inputs"
            )
            return replace(record, entered=entered)
        refused.append(f"{other.name} was tried after it and {_raised(record)}")
    return replace(first, notes=(*first.notes, *refused))


def _raised(record: RunRecord) -> str:
    if record.error is None:
        return "called no module that holds weights"
    return f"raised {record.error.type}: {' '.join(record.error.message.split())[:160]}"


def run_few_tokens(
    placed: Dispatched, example: ExampleInputs, *, call: ModelCall, **options: Any
) -> RunRecord:
    """The same of code that loops over tokens, with few of them.

    A ``generate`` that loops even then waits for a value that is made up (the probability that
    speech ends), and may wait for ever: then the next way in is run.
    """
    model = placed.split.model
    limited = {**options, "limit_ops": MOST_OPS_OF_FEW}
    try:
        return run_as_usual(placed, example, call=call, **limited)
    except TooManyOps:
        others = () if example.source == "user" else other_ways_in(model, call)
    for other in others:
        with contextlib.suppress(TooManyOps):  # it is not generate that loops
            inputs = other.takes(model, example.kwargs)
            record = placed.run(inputs, call=other, **limited)
            if record.executed and record.error is None:
                return replace(record, entered=_not_ended(model, call, other))
    return run_as_usual(placed, example, call=call, **options)


def _not_ended(model: nn.Module, call: ModelCall, other: ModelCall) -> str:
    return (
        f"{call.name} of {type(model).__name__} does not end on values that are made up; "
        f"{other.name} was run instead, and what it does not reach is unverified"
    )


def run_as_asked(
    placed: Dispatched, example: ExampleInputs, *, call: ModelCall, **options: Any
) -> RunRecord:
    """By this call and no other."""
    inputs = {**call.takes(placed.split.model, example.kwargs), **_decided_by_user(example)}
    return placed.run(inputs, call=call, **options)


def _decided_by_user(inputs: ExampleInputs) -> dict[str, Any]:
    """First tokens of the decoder, which ``generate`` makes itself where the user gives none."""
    names = ("decoder_input_ids", "decoder_attention_mask") if inputs.source == "user" else ()
    return {name: inputs.kwargs[name] for name in names if name in inputs.kwargs}
