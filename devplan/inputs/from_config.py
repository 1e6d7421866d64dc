"""Example inputs from signature, configuration and weights, where no processor is at hand.

First each kind (image, video, sound) is offered to the model alone, in one form after the other,
with one placeholder in the text; the first form that the model's code takes is kept, with the
number of rows that its features have.  Then the text is written with as many placeholders.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from devplan.inputs.facts import Facts
from devplan.inputs.images import image_candidates
from devplan.inputs.latents import latent_candidates
from devplan.inputs.media import Candidate
from devplan.inputs.probe import Probed, probe
from devplan.inputs.request import ExampleInputs, InputRequest
from devplan.inputs.required import required_arguments
from devplan.inputs.sounds import sound_candidates
from devplan.inputs.textual import decoder_arguments, text_arguments
from devplan.inputs.tokens import KINDS, Placeholders, compose, find_token
from devplan.inputs.values import value_candidates
from devplan.inputs.videos import video_candidates

MOST_TRIES = 12
"""Forms that are offered before a kind is given up: a probe of a large tower takes a second."""

MOST_EQUAL_REFUSALS = 6
"""A model that says the same of so many forms minds something else."""

_MAKERS: dict[str, Callable[[Facts, int], Iterator[Candidate]]] = {
    "image": image_candidates,
    "video": video_candidates,
    "audio": sound_candidates,
    "values": value_candidates,
    "latents": latent_candidates,
}


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A form that the model takes."""

    candidate: Candidate
    form: int = 0
    """Which of the candidates it is, in the order in which they are offered."""
    rows: int
    """Placeholders of one item; 0: its features do not stand in the text."""
    runs: int = 1
    """Runs that the placeholders of one item are divided into."""


def inputs_from_config(facts: Facts) -> ExampleInputs:
    """Keyword arguments made from what the model says about itself."""
    facts.filled = _filled(facts)
    chosen, notes = _chosen(facts)
    kwargs = _assemble(facts, chosen)
    if facts.filled and probe(facts, kwargs).error is not None:
        kwargs = {name: kwargs[name] for name in kwargs if name not in facts.filled}
    notes += _missing(facts, kwargs)
    return ExampleInputs(
        kwargs=kwargs,
        modalities=_modalities(kwargs, chosen),
        source="configuration",
        notes=tuple(notes),
    )


_KNOWN: WeakKeyDictionary[nn.Module, dict[InputRequest, tuple[list[Chosen], list[str]]]] = (
    WeakKeyDictionary()
)
"""Model -> what was asked for, but for the length of the text -> the forms that it takes.  Asking
once is enough: of a model with large towers the probes take longer than the runs."""


_FILLED: WeakKeyDictionary[nn.Module, dict[InputRequest, dict[str, torch.Tensor]]] = (
    WeakKeyDictionary()
)
"""Model -> what was asked for -> what `_filled` found: a plan and its proof ask for the same."""


def _filled(facts: Facts) -> dict[str, torch.Tensor]:
    """Required arguments that no maker knows, as the model's code takes them best."""
    known = _FILLED.setdefault(facts.model, {})
    if facts.request not in known:
        known[facts.request] = _searched(facts)
    return known[facts.request]


def _searched(facts: Facts) -> dict[str, torch.Tensor]:
    text = _assemble(facts, [])
    missing = facts.required - text.keys()
    known = {
        name
        for kind, maker in _MAKERS.items()
        if (items := _wanted(facts, kind, []))
        for candidate in islice(maker(facts, items), MOST_TRIES)
        for name in candidate.arguments
    }
    return required_arguments(facts, text, missing) if missing - known else {}


def _chosen(facts: Facts) -> tuple[list[Chosen], list[str]]:
    """A form for each kind that the model takes, and notes on those that it does not."""
    asked = replace(facts.request, tokens=InputRequest().tokens)
    known = _KNOWN.setdefault(facts.model, {})
    one = replace(asked, batch=1, padded=False)
    if asked not in known and one in known:
        known[asked] = _for_batch(facts, *known[one])
    if asked not in known:
        notes: list[str] = []
        chosen: list[Chosen] = []
        for kind, maker in _MAKERS.items():
            items = _wanted(facts, kind, [one.candidate.kind for one in chosen])
            if items:
                found = _first_accepted(facts, maker(facts, items), notes, has_main=bool(chosen))
                chosen += [found] if found else []
        if any(one.candidate.kind == "latents" for one in chosen):
            return chosen, notes  # made for as many tokens as were asked for
        known[asked] = chosen, notes
    chosen, notes = known[asked]
    return list(chosen), list(notes)


def _for_batch(
    facts: Facts, chosen: list[Chosen], notes: list[str]
) -> tuple[list[Chosen], list[str]]:
    """The forms that the model takes for one sequence, for a batch of several."""
    candidates = [
        next(
            islice(
                _distinct(_MAKERS[one.candidate.kind](facts, one.candidate.items)), one.form, None
            )
        )
        for one in chosen
    ]
    return [
        replace(one, candidate=candidate) for one, candidate in zip(chosen, candidates, strict=True)
    ], notes


def _wanted(facts: Facts, kind: str, present: list[str]) -> int:
    """Items of a kind for each sequence."""
    asked = {
        "image": facts.request.images,
        "video": facts.request.videos,
        "audio": facts.request.sounds,
    }.get(kind)
    if asked is not None:
        return asked
    return 0 if kind == "video" and "image" in present else 1


def _first_accepted(
    facts: Facts, candidates: Iterator[Candidate], notes: list[str], *, has_main: bool
) -> Chosen | None:
    first: Candidate | None = None
    refusals: Counter[str] = Counter()
    for form, candidate in enumerate(islice(_distinct(candidates), MOST_TRIES)):
        found, error = _try(facts, candidate)
        if found is not None:
            return replace(found, form=form)
        first = first or candidate
        refusals[error] += 1
        if refusals[error] == MOST_EQUAL_REFUSALS:
            break
    if first is None:
        return None
    notes.append(
        f"{first.kind}: none of {refusals.total()} forms was accepted; "
        f"the most frequent refusal: {refusals.most_common(1)[0][0]}"
    )
    if "input_ids" in facts.accepted or has_main:
        return None
    return Chosen(candidate=first, rows=0)


def _try(facts: Facts, candidate: Candidate) -> tuple[Chosen | None, str]:
    """Offer one form; again with as many placeholders as it has rows, where one was refused."""
    answer = probe(facts, _assemble(facts, [Chosen(candidate=candidate, rows=1)]))
    if not answer.accepted:
        return None, answer.error or "the model does not look at it"
    rows = _rows_per_item(facts, candidate, answer)
    if answer.error is None:
        return Chosen(candidate=candidate, rows=rows), ""
    for runs in candidate.runs:
        counted = Chosen(candidate=candidate, rows=rows, runs=runs)
        answer = probe(facts, _assemble(facts, [counted]))
        if answer.error is None:
            return counted, ""
    return None, answer.error


def _distinct(candidates: Iterator[Candidate]) -> Iterator[Candidate]:
    """Weights and configuration may propose the same form."""
    seen: set[Any] = set()
    for candidate in candidates:
        form = tuple(
            (name, tuple(getattr(value, "shape", ())))
            for name, value in candidate.arguments.items()
        )
        if form not in seen:
            seen.add(form)
            yield candidate


def _rows_per_item(facts: Facts, candidate: Candidate, answer: Probed) -> int:
    if answer.rows is None or facts.takes("cross_attention_mask", "cross_attention_states"):
        # Features that are attended to stand beside the text: a token marks where they belong.
        stands = candidate.kind in KINDS and find_token(facts.config, candidate.kind) is not None
        return 1 if stands else 0
    return answer.rows // (candidate.items * facts.request.batch)


def _assemble(facts: Facts, chosen: list[Chosen]) -> dict[str, Any]:
    """All arguments for the kinds that are chosen."""
    kwargs: dict[str, Any] = {}
    if "input_ids" in facts.accepted:
        placeholders = [
            Placeholders(
                kind=one.candidate.kind,
                items=one.candidate.items * one.runs,
                rows=one.rows // one.runs,
            )
            for one in chosen
            if one.candidate.kind in KINDS and one.rows
        ]
        items = {one.candidate.kind: one.candidate.items for one in chosen}
        kwargs.update(text_arguments(facts, compose(facts, placeholders), items))
    kwargs.update({name: _copied(value) for name, value in facts.filled.items()})
    for one in chosen:
        kwargs.update({name: _copied(value) for name, value in one.candidate.arguments.items()})
    kwargs.update(decoder_arguments(facts))
    return kwargs


def _copied(value: Any) -> Any:
    """Nobody's run writes into the inputs of another."""
    return value.clone() if isinstance(value, torch.Tensor) else value


def _missing(facts: Facts, kwargs: dict[str, Any]) -> list[str]:
    return [
        f"no example can be made for the argument {name!r}"
        for name in sorted(facts.required - kwargs.keys())
    ]


def _modalities(kwargs: dict[str, Any], chosen: list[Chosen]) -> tuple[str, ...]:
    found = ["text"] if "input_ids" in kwargs else []
    found += [one.candidate.kind for one in chosen]
    return (*found, "decoder text") if "decoder_input_ids" in kwargs else tuple(found)
