"""A run as the model is used, and the next way in where its code refuses that at once.

``generate`` of some classes wants what nobody can make up: a voice of the checkpoint, a language to
translate to.  It raises before any block has run.  Then ``forward`` is run instead or, where the
class has none, the part that ``generate`` begins with, also if the parts after it are what refuses;
the record says so, and what was not reached stays unverified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from devplan.core import RunRecord
from devplan.virtual.calls import ForwardCall, GenerateCall, ModelCall, PartCall, can_generate
from devplan.virtual.entries import entered_part, has_forward
from devplan.virtual.split import Dispatched


def run_entering(
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


def other_ways_in(model: nn.Module, call: ModelCall) -> Iterator[ModelCall]:
    """What is run where ``generate``, with nothing asked for by the user, refuses its inputs."""
    if not isinstance(call, GenerateCall) or call.arguments:
        return
    if has_forward(model):
        yield ForwardCall()
    elif (entered := entered_part(model)) is not None:
        name, part = entered
        if can_generate(part):
            yield PartCall(part=name, call=GenerateCall())
        yield PartCall(part=name, call=ForwardCall())


def _raised(record: RunRecord) -> str:
    if record.error is None:
        return "called no module that holds weights"
    return f"raised {record.error.type}: {' '.join(record.error.message.split())[:160]}"
