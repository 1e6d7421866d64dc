"""Example inputs from signature, configuration and weights, where no processor is at hand.

First each kind (image, video, sound) is offered to the model alone, in one form after the other,
with one placeholder in the text; the first form that the model's code takes is kept, with the
number of rows that its features have.  Then the text is written with as many placeholders.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from devplan.inputs.choosing import Chosen, assemble, chosen_forms, shapes_of_makers
from devplan.inputs.facts import Facts
from devplan.inputs.probe import probe
from devplan.inputs.request import ExampleInputs, InputRequest
from devplan.inputs.required import Found, made_of, required_arguments


def inputs_from_config(facts: Facts) -> ExampleInputs:
    """Keyword arguments made from what the model says about itself."""
    facts.filled = _filled(facts)
    chosen, notes = chosen_forms(facts)
    kwargs = assemble(facts, chosen)
    if facts.filled and probe(facts, kwargs).error is not None:
        kwargs = {name: kwargs[name] for name in kwargs if name not in facts.filled}
    notes += _missing(facts, kwargs)
    return ExampleInputs(
        kwargs=kwargs,
        modalities=_modalities(kwargs, chosen),
        source="configuration",
        notes=tuple(notes),
    )


_FILLED: WeakKeyDictionary[nn.Module, dict[InputRequest, Found]] = WeakKeyDictionary()
"""Model -> what was asked for -> what `_filled` found: a plan and its proof ask for the same."""


def _filled(facts: Facts) -> dict[str, torch.Tensor]:
    """Required arguments that no maker knows, as the model's code takes them best."""
    known = _FILLED.setdefault(facts.model, {})
    if facts.request not in known:
        alike = (found for asked, found in known.items() if asked.batch == facts.request.batch)
        known[facts.request] = _searched(facts, next(alike, None))
    return made_of(facts, known[facts.request].forms)


def _searched(facts: Facts, known: Found | None) -> Found:
    text = assemble(facts, [])
    missing = facts.required - text.keys()
    makeable = shapes_of_makers(facts)
    if not missing - makeable.keys():
        return Found(forms={}, is_taken=True)
    return required_arguments(facts, text, missing, known=known, makeable=makeable)


def _missing(facts: Facts, kwargs: dict[str, Any]) -> list[str]:
    return [
        f"no example can be made for the argument {name!r}"
        for name in sorted(facts.required - kwargs.keys())
    ]


def _modalities(kwargs: dict[str, Any], chosen: list[Chosen]) -> tuple[str, ...]:
    found = ["text"] if "input_ids" in kwargs else []
    found += [one.candidate.kind for one in chosen]
    return (*found, "decoder text") if "decoder_input_ids" in kwargs else tuple(found)
