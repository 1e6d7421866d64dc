"""Which form a model takes of an image, a video, a sound: it is asked, one form after the other.

Each kind is offered alone, with one placeholder in the text, then with as many as its features have
rows.  Kinds that are refused alone are offered together.
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
from devplan.inputs.images import image_candidates, video_candidates
from devplan.inputs.probe import Probed, asked_on_one_card, probe
from devplan.inputs.request import Candidate, ExampleInputs, InputRequest
from devplan.inputs.required import FoundForms, made_of, required_arguments
from devplan.inputs.sounds import sound_candidates
from devplan.inputs.text import (
    KINDS,
    Placeholders,
    compose_sequences,
    decoder_arguments,
    find_token,
    text_arguments,
)
from devplan.inputs.values import latent_candidates, value_candidates

MOST_TRIES = 12
"""Forms that are offered before a kind is given up: a probe of a large tower takes a second."""

MOST_EQUAL_REFUSALS = 6
"""A model that says the same of so many forms minds something else."""

_ROUNDS = 2
"""Times that each of several kinds is offered beside the others: what one says helps the next."""

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
    tokens: int | None = None
    """Length of the text where a vector is added to each of its tokens; None: as asked for."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What a model takes, kept for the next time that it is asked."""

    chosen: list[Chosen]
    notes: list[str]
    said_sides: tuple[int, ...] | None


@dataclass(frozen=True, kw_only=True)
class _Tried:
    """What came of one form."""

    chosen: Chosen | None
    error: str
    num_ops: int


_KNOWN: WeakKeyDictionary[nn.Module, dict[InputRequest, _Known]] = WeakKeyDictionary()
"""Model -> what was asked for, but for the length of the text -> the forms that it takes.  Asking
once is enough: of a model with large towers the probes take longer than the runs."""


def shapes_of_makers(facts: Facts) -> dict[str, list[tuple[int, ...]]]:
    """Arguments that the makers of media can make -> their shapes, the likeliest first."""
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for kind, maker in _MAKERS.items():
        items = _wanted(facts, kind, [])
        for candidate in islice(maker(facts, items), MOST_TRIES if items else 0):
            for name, value in candidate.arguments.items():
                shapes.setdefault(name, []).append(tuple(getattr(value, "shape", ())))
    facts.said_sides = None  # nothing was offered yet
    return shapes


def chosen_forms(facts: Facts) -> tuple[list[Chosen], list[str]]:
    """A form for each kind that the model takes, and notes on those that it does not."""
    asked = replace(facts.request, tokens=InputRequest().tokens)
    known = _KNOWN.setdefault(facts.model, {})
    one = replace(asked, batch=1, padded=False)
    if asked not in known and one in known:
        known[asked] = _for_batch(facts, known[one])
    if asked not in known:
        found = _asked_for(facts)
        if any(one.candidate.kind == "latents" for one in found.chosen):
            return found.chosen, found.notes  # made for as many tokens as were asked for
        known[asked] = found
    return list(known[asked].chosen), list(known[asked].notes)


def _asked_for(facts: Facts) -> _Known:
    notes: list[str] = []
    chosen: list[Chosen] = []
    refused: list[Chosen] = []
    for kind, maker in _MAKERS.items():
        items = _wanted(facts, kind, [one.candidate.kind for one in chosen])
        if not items:
            continue
        form, note = _first_accepted(facts, maker(facts, items))
        if note is not None:
            notes.append(note)
            refused += [form] if form else []
        elif form is not None:
            chosen.append(form)
    if refused and "input_ids" not in facts.accepted:
        together = _together(facts, chosen, refused) if len(chosen + refused) > 1 else None
        if together is not None:
            chosen, notes = together, []
        elif not chosen:
            chosen = refused[:1]
    return _Known(chosen=chosen, notes=notes, said_sides=facts.said_sides)


def _for_batch(facts: Facts, known: _Known) -> _Known:
    """The forms that the model takes for one sequence, for a batch of several."""
    facts.said_sides = known.said_sides
    candidates = [
        next(
            islice(
                _distinct(_MAKERS[one.candidate.kind](facts, one.candidate.items)), one.form, None
            )
        )
        for one in known.chosen
    ]
    return replace(
        known,
        chosen=[
            replace(one, candidate=candidate)
            for one, candidate in zip(known.chosen, candidates, strict=True)
        ],
    )


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
    facts: Facts, candidates: Iterator[Candidate]
) -> tuple[Chosen | None, str | None]:
    """The first form that the model takes; else the one it gets farthest with, and a note."""
    farthest: Chosen | None = None
    most_ops = -1
    refusals: Counter[str] = Counter()
    for form, candidate in enumerate(islice(_distinct(candidates), MOST_TRIES)):
        tried = _try(facts, candidate)
        if tried.chosen is not None:
            return replace(tried.chosen, form=form), None
        if tried.num_ops > most_ops:
            farthest, most_ops = Chosen(candidate=candidate, form=form, rows=0), tried.num_ops
        facts.refusals.append(tried.error)
        refusals[tried.error] += 1
        if refusals[tried.error] == MOST_EQUAL_REFUSALS:
            break
    if farthest is None:
        return None, None
    return farthest, (
        f"{farthest.candidate.kind}: none of {refusals.total()} forms was accepted; "
        f"the most frequent refusal: {refusals.most_common(1)[0][0]}"
    )


def _together(facts: Facts, chosen: list[Chosen], refused: list[Chosen]) -> list[Chosen] | None:
    """Forms of kinds that the model does not take without each other; None: it takes none.

    One kind after the other is offered in all its forms beside the best ones of the others.
    """
    best = {one.candidate.kind: one for one in refused}
    most_ops = -1
    for _ in range(_ROUNDS):
        for kind, held in list(best.items()):
            if not facts.said_sides and not chosen:
                facts.said_sides = None  # beside another kind the code says more
            maker = _MAKERS[kind](facts, held.candidate.items)
            for form, candidate in enumerate(islice(_distinct(maker), MOST_TRIES)):
                offered = {**best, kind: Chosen(candidate=candidate, form=form, rows=0)}
                answer = probe(facts, combined_arguments(facts, [*chosen, *offered.values()]))
                if answer.error is None:
                    return [*chosen, *offered.values()]
                facts.refusals.append(answer.error)
                if answer.num_ops > most_ops:
                    best, most_ops = offered, answer.num_ops
    return None


def _try(facts: Facts, candidate: Candidate) -> _Tried:
    """Offer one form; again with as many placeholders as it has rows, where one was refused."""
    answer = probe(facts, combined_arguments(facts, [Chosen(candidate=candidate, rows=1)]))
    if not answer.accepted:
        error = answer.error or "the model does not look at it"
        return _Tried(chosen=None, error=error, num_ops=answer.num_ops)
    rows = _rows_per_item(facts, candidate, answer)
    if answer.error is None:
        return _Tried(chosen=Chosen(candidate=candidate, rows=rows), error="", num_ops=0)
    counts = [Chosen(candidate=candidate, rows=rows, runs=runs) for runs in candidate.runs]
    while counts:
        counted = counts.pop(0)
        answer = probe(facts, combined_arguments(facts, [counted]))
        if answer.error is None:
            return _Tried(chosen=counted, error="", num_ops=0)
        if not counts and counted.rows == rows and counted.tokens is None:
            counts = _otherwise_counted(facts, counted, answer)
    return _Tried(chosen=None, error=answer.error or "", num_ops=answer.num_ops)


def _otherwise_counted(facts: Facts, counted: Chosen, answer: Probed) -> list[Chosen]:
    """As many placeholders as the refusal says; a text of as many tokens as there are rows."""
    items = counted.candidate.items * facts.request.batch
    said = (answer.said or 0) // items
    if said and said != counted.rows:
        return [replace(counted, rows=said, runs=1)]
    if counted.rows and str(counted.rows * counted.candidate.items) in (answer.error or ""):
        return [replace(counted, rows=0, runs=1, tokens=counted.rows * counted.candidate.items)]
    return []


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


def combined_arguments(facts: Facts, chosen: list[Chosen]) -> dict[str, Any]:
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
        tokens = max(filter(None, (one.tokens for one in chosen)), default=None)
        kwargs.update(text_arguments(facts, compose_sequences(facts, placeholders, tokens), items))
    for one in chosen:
        kwargs.update({name: _copied(value) for name, value in one.candidate.arguments.items()})
    kwargs.update({name: _copied(value) for name, value in facts.filled.items()})
    kwargs.update(decoder_arguments(facts))
    return kwargs


def _copied(value: Any) -> Any:
    """Nobody's run writes into the inputs of another."""
    return value.clone() if isinstance(value, torch.Tensor) else value


# Example inputs from signature, configuration and weights, where there is no processor. First
# each kind (image, video, sound) is offered alone, in one form after the other, with one
# placeholder in the text; the first form that the model's code takes is kept, with the number of
# rows of its features. Then the text is written with as many placeholders.


def inputs_from_config(facts: Facts) -> ExampleInputs:
    """Keyword arguments made from what the model says about itself."""
    with asked_on_one_card(facts):
        return _from_config(facts)


def _from_config(facts: Facts) -> ExampleInputs:
    facts.filled = _filled(facts)
    chosen, notes = chosen_forms(facts)
    kwargs = combined_arguments(facts, chosen)
    if facts.filled and probe(facts, kwargs).error is not None:
        kwargs = {name: kwargs[name] for name in kwargs if name not in facts.filled}
    notes += _missing(facts, kwargs)
    return ExampleInputs(
        kwargs=kwargs,
        modalities=_modalities(kwargs, chosen),
        source="configuration",
        notes=tuple(notes),
    )


_FILLED: WeakKeyDictionary[nn.Module, dict[InputRequest, FoundForms]] = WeakKeyDictionary()
"""Model -> what was asked for -> what `_filled` found: a plan and its proof ask for the same."""


def _filled(facts: Facts) -> dict[str, torch.Tensor]:
    """Required arguments that no maker knows, as the model's code takes them best."""
    known = _FILLED.setdefault(facts.model, {})
    if facts.request not in known:
        alike = (found for asked, found in known.items() if asked.batch == facts.request.batch)
        known[facts.request] = _searched(facts, next(alike, None))
    return made_of(facts, known[facts.request].forms)


def _searched(facts: Facts, known: FoundForms | None) -> FoundForms:
    text = combined_arguments(facts, [])
    missing = facts.required - text.keys()
    makeable = shapes_of_makers(facts)
    if not missing - makeable.keys():
        return FoundForms(forms={}, is_taken=True)
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
