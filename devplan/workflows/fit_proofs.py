"""The rows of the table, and the virtual runs that prove the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from devplan.core import BlockGraph, Infeasible, Machine, Plan
from devplan.profile import build_graph
from devplan.workflows.fit_forms import NO_PINS, Form
from devplan.workflows.fit_rows import FORETOLD, Answer, Offer, Row
from devplan.workflows.profiled_model import Progress, run_at
from devplan.workflows.refinement import Proof, prove
from devplan.workflows.suggesting import examiner_of

Planner = Callable[[BlockGraph, Machine, Mapping[str, str]], Plan | Infeasible]


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """A row and the form of the model that it is about."""

    row: Row
    form: Form


def row_of(offer: Offer, form: Form) -> Filled:
    """The three answers, planned and not run."""
    precision, machine = form.precision, offer.machine
    row = Row(
        offer=offer,
        precision=precision.name,
        precision_rank=form.rank,
        load=precision.load,
        weight_bytes=precision.weight_bytes,
        limit_tokens=form.studied.limit_tokens,
        asked=_answer(form.plan_asked(form.graph, machine)),
    )
    if isinstance(row.asked, Infeasible) or not form.studied.is_growth_known:
        return Filled(row=row, form=form)
    tokens = _answer(form.plan_tokens(form.graph, machine))
    sequences = _answer(form.plan_sequences(form.padded_graph, machine))
    row = replace(row, tokens=_or(tokens, row.asked), sequences=_or(sequences, row.asked))
    return Filled(row=row, form=form)


def _answer(result: Plan | Infeasible) -> Answer | Infeasible:
    return Answer(plan=result) if isinstance(result, Plan) else result


def _or(answer: Answer | Infeasible, asked: Answer) -> Answer:
    """More than the workload, or the workload itself."""
    return asked if isinstance(answer, Infeasible) else answer


# ------------------------------------------------------------------------------------- proofs


def prove_best(rows: Sequence[Filled], progress: Progress) -> list[Filled]:
    """The rows with the finest precision that fits on each machine or kind of card proven.

    Where a run finds that it does not fit after all, the next precision is run.
    """
    proven: list[Filled] = []
    done: set[object] = set()
    for filled in sorted(rows, key=lambda filled: filled.row.precision_rank):
        offer = filled.row.offer
        place = offer.kind or offer.machine
        if filled.row.fits and place not in done:
            progress(f"running {filled.row.precision} on {offer.label} virtually")
            filled = _proven(filled)
            done |= {place} if filled.row.fits else set()
        proven.append(filled)
    return proven


def _proven(filled: Filled) -> Filled:
    """The row with its three answers run, and as large as the runs allow."""
    row, form = filled.row, filled.form
    asked = _run(filled, row.asked, form.graph, form.plan_asked)
    if row.tokens is None or isinstance(asked, Infeasible) or asked.errors:
        return replace(filled, row=replace(row, asked=asked, tokens=None, sequences=None))
    tokens = _run_tokens(filled, asked)
    sequences = _run(filled, row.sequences, form.padded_graph, form.plan_sequences)
    row = replace(row, asked=asked, tokens=tokens, sequences=_or(sequences, asked))
    return replace(filled, row=row)


def _run_tokens(filled: Filled, asked: Answer) -> Answer:
    """The most tokens, foretold from runs of that many."""
    form, machine = filled.form, filled.row.offer.machine
    studied = run_at(form.studied, filled.row.tokens.workload.context_tokens)
    profile = replace(form.precision.profile, activations=studied.profile.activations)
    graph = build_graph(profile)
    answer = _or(_answer(form.plan_tokens(graph, machine)), asked)
    return _or(_run(filled, answer, graph, form.plan_tokens), asked)


def _run(
    filled: Filled, answer: Answer, graph: BlockGraph, planner: Planner
) -> Answer | Infeasible:
    """Run the plan of an answer, and plan again until a run finds nothing."""
    form, machine = filled.form, filled.row.offer.machine
    if answer.plan is filled.row.asked.plan and filled.row.asked.is_proven:
        return filled.row.asked
    proof = prove(
        Proof(result=answer.plan, graph=graph, verification=FORETOLD),
        NO_PINS,
        partial(_planned, planner, machine),
        examiner_of(form.studied, machine, form.precision.source),
    )
    if isinstance(proof.result, Infeasible):
        return proof.result
    return Answer(plan=proof.result, verification=proof.verification, errors=proof.errors)


def _planned(
    planner: Planner, machine: Machine, graph: BlockGraph, pins: Mapping[str, str]
) -> Plan | Infeasible:
    return planner(graph, machine, pins)
