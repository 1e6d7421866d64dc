"""From a model and a list of offers to the table of what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from devplan.core import (
    BlockGraph,
    Infeasible,
    InputError,
    Machine,
    NamedInFile,
    Plan,
    Workload,
    accepts,
    flag,
    optional,
    text,
    texts,
    wrong,
)
from devplan.machine import (
    MAX_CARDS,
    MachineLike,
    as_machine,
    machine_label,
    parse_gpus,
    read_items,
)
from devplan.planning import PlanRequest, fewest_cards, plan
from devplan.profile import build_graph
from devplan.sandbox import exclusively, in_time
from devplan.workflows.fit_rows import FitResult, ModelVariant, Offer, Row, in_order, variants_on
from devplan.workflows.plan_runner import PlanRunner, VerifiedPlan
from devplan.workflows.profiled_model import (
    MODEL_ARGUMENTS,
    ProfiledModel,
    Progress,
    padded_activations,
    run_as_long_as_fits,
    run_at,
    silent,
    study,
)
from devplan.workflows.refinement import prove


def _machines(name: str, value: Any) -> tuple[Any, ...]:
    """Several machines; one alone, also as text, is a list of one."""
    if isinstance(value, str | Machine):
        return (value,)
    if not isinstance(value, list | tuple):
        raise wrong(name, value, 'a list of machines: ["24GiB,12GiB", "2x80GiB"]')
    return tuple(value)


@accepts(
    **MODEL_ARGUMENTS,
    machines=_machines,
    cards=texts('kinds of cards: ["rtx-4090"]'),
    reserve=optional(text('a size such as "1GiB"')),
    verify=flag,
)
@in_time
@exclusively
def fit(
    model: str | NamedInFile,
    machines: Sequence[MachineLike] = (),
    *,
    cards: Sequence[str] = (),
    workload: Workload | None = None,
    reserve: str | None = None,
    packed: bool = False,
    quantize: str | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    verify: bool = True,
    timeout_s: float | None = None,
    progress: Progress = silent,
) -> FitResult:
    """Which machines and precisions fit a model, and how much more they would hold.

    Parameters
    ----------
    model
        Catalogue name, folder, hub id or ``package.module:factory``.
    machines
        Machines to choose from; each text as ``--gpus`` takes it, ``"24GiB,12GiB"``, a list of
        cards, or a `Machine`.
    cards
        Kinds of cards of which the fewest that suffice are looked for: ``"a100-80gb"``.
    workload
        Batch, context and dtypes that have to fit; what is None is left to the model.
    reserve
        Kept free on each card of `cards` and of machines given as text.
    packed, quantize, trust_remote_code, revision, timeout_s, progress
        As for `devplan.suggest`.
    verify
        Whether the best precision of every offer is run virtually.

    Returns
    -------
    FitResult
        Rows with the best first; ``result.fits`` says whether anything does.

    Raises
    ------
    InputError
        When there is nothing to choose from, the model cannot be found or built, or the time is
        up.

    Examples
    --------
    How many cards are needed for a long context::

        devplan.fit("Qwen/Qwen3-8B", cards=["rtx-4090"],
                    workload=devplan.Workload(context=32768)).rows[0].offer.label
    """
    kinds = tuple(dict.fromkeys(checked_kind(kind) for kind in cards))
    read = [as_machine("machines", machine, reserve=reserve) for machine in machines]
    if not kinds and not read:
        raise InputError(
            "nothing to choose from: give machines (--gpus 2x24GiB, as often as you like) or kinds "
            "of GPUs (--card a100-80gb)"
        )
    offered = (*read, *(of_kind(kind, 1, reserve).machine for kind in kinds))
    studied = study(
        model,
        workload or Workload(),
        offered,
        packed=packed,
        quantize=quantize,
        trust_remote_code=trust_remote_code,
        revision=revision,
        of_tokens="fit",
        progress=progress,
    )
    progress(f"planning for {len(offered)} machines")
    named = named_offers(read)

    padded = padded_activations(studied)

    def pairs(known: ProfiledModel) -> list[Pair]:
        on = partial(variants_on, known, padded=padded)
        return [*_named(on, named), *_of_kinds(on, kinds, reserve)]

    studied = run_as_long_as_fits(studied, lambda known: _longest(_lightest(pairs(known))))
    rows = [row_of(offer, variant) for offer, variant in pairs(studied)]
    if verify:
        rows = prove_best(rows, progress)
    return FitResult(
        identity=studied.identity,
        workload=studied.workload,
        rows=in_order([row.row for row in rows]),
        notes=studied.notes,
    )


Pair = tuple[Offer, ModelVariant]


VariantsOn = Callable[[Machine], tuple[ModelVariant, ...]]


def _named(variants_of: VariantsOn, offers: Sequence[Offer]) -> Iterator[Pair]:
    """Every machine with every variant of the model."""
    for offer in offers:
        for variant in variants_of(offer.machine):
            yield offer, variant


def _of_kinds(variants_of: VariantsOn, kinds: Sequence[str], reserve: str | None) -> Iterator[Pair]:
    """The fewest cards of every kind; how many they are depends on the variant."""
    for kind in kinds:
        for variant in variants_of(of_kind(kind, 1, reserve).machine):
            yield fewest_of_kind(kind, variant.graph, variant.studied.workload, reserve), variant


def _lightest(pairs: Sequence[Pair]) -> list[Pair]:
    """Of each machine the lightest precision: it holds the most tokens."""
    return list({offer.label: (offer, variant) for offer, variant in pairs}.values())


def _longest(pairs: Sequence[Pair]) -> int:
    """The most tokens that any row holds."""
    plans = (plan(variant.graph, variant.request(o.machine, TOKENS)) for o, variant in pairs)
    return max((p.workload.tokens for p in plans if isinstance(p, Plan)), default=0)


# ------------------------------------------------------------------------------------------- offers


def named_offers(machines: Sequence[Machine]) -> tuple[Offer, ...]:
    """Each machine once."""
    return tuple(
        Offer(machine=machine, label=machine_label(machine)) for machine in dict.fromkeys(machines)
    )


def checked_kind(kind: str) -> str:
    """A kind of card, as ``--card`` takes it.

    Raises
    ------
    InputError
        When it is a count, several cards, or a card of this machine.
    """
    items = read_items(kind, "--card")
    if len(items) != 1 or items[0].text != kind.strip():
        raise InputError(
            f"--card {kind}: name one kind of GPU, such as 24GiB or a100-80gb; how many are "
            "needed is the answer (for a machine of your choice: --gpus)"
        )
    if items[0].index is not None:
        raise InputError(
            f"--card {kind} is the index of one GPU of this machine; name a kind, such as 24GiB "
            "or rtx-4090"
        )
    return kind.strip()


def of_kind(kind: str, count: int, reserve: str | None) -> Offer:
    """So many cards of a kind."""
    machine = parse_gpus(f"{count}x{kind}", reserve=reserve)
    return Offer(machine=machine, label=machine_label(machine), kind=kind)


def fewest_of_kind(kind: str, graph: BlockGraph, workload: Workload, reserve: str | None) -> Offer:
    """The fewest cards that suffice; the most that are planned for where none do."""
    count = fewest_cards(
        graph, workload, lambda count: of_kind(kind, count, reserve).machine, most=MAX_CARDS
    )
    return of_kind(kind, count or MAX_CARDS, reserve)


# --------------------------------------------------------------------------------------------- rows


TOKENS, SEQUENCES = "context", "sequences"
"""Objectives: the most tokens at the batch, and the most sequences at the context."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """A row and the variant of the model that it is about."""

    row: Row
    variant: ModelVariant


def row_of(offer: Offer, variant: ModelVariant) -> Filled:
    """The three answers, planned and not run."""
    machine = offer.machine
    row = Row(
        offer=offer,
        precision=variant.name,
        precision_rank=variant.rank,
        load=variant.load,
        quantize=variant.source.quantize,
        weight_bytes=variant.weight_bytes,
        limit_tokens=variant.studied.limit_tokens,
        asked=_answer(variant.graph, variant.request(machine)),
    )
    if isinstance(row.asked, Infeasible) or not variant.studied.is_growth_known:
        return Filled(row=row, variant=variant)
    tokens = _answer(variant.graph, variant.request(machine, TOKENS))
    sequences = _answer(variant.padded_graph, variant.request(machine, SEQUENCES))
    row = replace(row, tokens=_or(tokens, row.asked), sequences=_or(sequences, row.asked))
    return Filled(row=row, variant=variant)


def _answer(graph: BlockGraph, request: PlanRequest) -> VerifiedPlan | Infeasible:
    result = plan(graph, request)
    return VerifiedPlan(result=result, graph=graph) if isinstance(result, Plan) else result


def _or(answer: VerifiedPlan | Infeasible, asked: VerifiedPlan) -> VerifiedPlan:
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
    row, variant = filled.row, filled.variant
    asked = _run(filled, row.asked, variant.graph)
    if row.tokens is None or isinstance(asked, Infeasible) or asked.errors:
        return replace(filled, row=replace(row, asked=asked, tokens=None, sequences=None))
    tokens = _run_tokens(filled, asked)
    sequences = _run(filled, row.sequences, variant.padded_graph, SEQUENCES)
    row = replace(row, asked=asked, tokens=tokens, sequences=_or(sequences, asked))
    return replace(filled, row=row)


def _run_tokens(filled: Filled, asked: VerifiedPlan) -> VerifiedPlan:
    """The most tokens, foretold from runs of that many."""
    variant, machine = filled.variant, filled.row.offer.machine
    studied = run_at(variant.studied, filled.row.tokens.workload.tokens)
    profile = replace(variant.profile, activations=studied.profile.activations)
    graph = build_graph(profile)
    answer = _or(_answer(graph, variant.request(machine, TOKENS)), asked)
    return _or(_run(filled, answer, graph, TOKENS), asked)


def _run(
    filled: Filled, answer: VerifiedPlan, graph: BlockGraph, objective: str = "balance"
) -> VerifiedPlan | Infeasible:
    """Run the plan of an answer, and plan again until a run finds nothing."""
    variant, machine = filled.variant, filled.row.offer.machine
    if answer.plan is filled.row.asked.plan and filled.row.asked.is_proven:
        return filled.row.asked
    proof = prove(
        VerifiedPlan(result=answer.plan, graph=graph),
        variant.request(machine, objective),
        PlanRunner(model=variant.studied, machine=machine, source=variant.source),
    )
    if isinstance(proof.result, Infeasible):
        return proof.result
    # [memory] a table of many rows need not keep every run.
    return replace(proof, context=None, check=None)
