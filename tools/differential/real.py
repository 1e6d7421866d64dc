"""The calls that a check makes, made for real: the same inputs, with values."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from devplan.inputs.probe import describe
from devplan.virtual.calls import ModelCall
from devplan.virtual.source_lines import model_error
from tools.differential.row import Failure, Way

Forms = Iterator[tuple[ModelCall, Mapping[str, Any]]]
"""Ways to make a call, as `devplan.checker.running.planned_calls` gives them."""


@dataclass(frozen=True, kw_only=True)
class RealCall:
    """A call in the form that the unsplit model takes, and the tensors that it gives."""

    name: str
    call: ModelCall
    kwargs: Mapping[str, Any]
    expected: list[torch.Tensor]


def real_call(model: nn.Module, name: str, forms: Forms) -> RealCall:
    """A call in the first form that the unsplit model takes.

    Raises
    ------
    Exception
        What the first form raises, where the model takes none.
    """
    first: Exception | None = None
    for call, kwargs in forms:
        kwargs = with_values(kwargs)
        try:
            expected = given_by(model, call, kwargs)
        except Exception as error:  # the model's own code, with values that are made up
            first = first or error
        else:
            return RealCall(name=name, call=call, kwargs=kwargs, expected=expected)
    assert first is not None, "a call has a form"
    raise first


def with_values(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with random numbers for floats that have no value."""
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(value.shape, generator=generator)
        if isinstance(value, torch.Tensor) and value.is_meta
        else value
        for name, value in kwargs.items()
    }


def given_by(model: nn.Module, call: ModelCall, kwargs: Mapping[str, Any]) -> list[torch.Tensor]:
    """The tensors that a call gives; what is drawn at random is drawn alike each time."""
    torch.manual_seed(2)
    with torch.no_grad():
        output = call.run(model, copy.deepcopy(dict(kwargs)))
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def tried(model: nn.Module, calls: tuple[RealCall, ...]) -> Way:
    """What a split model makes of each call."""
    failures: dict[str, Failure] = {}
    others: list[str] = []
    for each in calls:
        try:
            given = given_by(model, each.call, each.kwargs)
        except Exception as error:  # that is the question
            raise_out_of_memory(error)
            failures[each.name] = failure_of(error)
        else:
            if not _alike(given, each.expected):
                others.append(each.name)
    return Way(failures=failures, others=tuple(others))


def raise_out_of_memory(error: Exception) -> None:
    """Raise where the limit of the process ended a call: it says nothing of the map.

    Raises
    ------
    MemoryError
        For an allocation that failed, of Python's or of PyTorch's.
    """
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        raise MemoryError(describe(error)) from error


def failure_of(error: Exception) -> Failure:
    """An exception with the lines of the model's code that it passed through."""
    found = model_error(error, "")
    lines = tuple(map(str, found.stack))
    return Failure(what=describe(error)[:300], place=lines[-1] if lines else "", stack=lines)


def _alike(given: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return len(given) == len(expected) and all(map(_is_alike, given, expected))


def _is_alike(given: torch.Tensor, expected: torch.Tensor) -> bool:
    return torch.equal(given, expected) or (
        given.shape == expected.shape
        and torch.allclose(given, expected, rtol=1e-3, atol=1e-4, equal_nan=True)
    )
