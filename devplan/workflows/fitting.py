"""From a model and a list of offers to the table of what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from devplan.core import (
    InputError,
    Machine,
    NamedInFile,
    Plan,
    WorkloadRequest,
    accepts,
    as_request,
    flag,
    function,
    model_name,
    optional,
    text,
    texts,
    wrong,
)
from devplan.machine import MachineLike, as_machine
from devplan.sandbox import exclusively, in_time, time_limit
from devplan.workflows.fit_forms import Form, forms_on
from devplan.workflows.fit_offers import checked_kind, fewest_of_kind, named_offers, of_kind
from devplan.workflows.fit_proofs import prove_best, row_of
from devplan.workflows.fit_rows import FitResult, Offer, in_order
from devplan.workflows.profiled_model import (
    ProfiledModel,
    Progress,
    padded_activations,
    run_as_long_as_fits,
    silent,
    study,
)


def _machines(name: str, value: Any) -> tuple[Any, ...]:
    """Several machines; one alone, also as text, is a list of one."""
    if isinstance(value, str | Machine):
        return (value,)
    if not isinstance(value, list | tuple):
        raise wrong(name, value, 'a list of machines: ["24GiB,12GiB", "2x80GiB"]')
    return tuple(value)


@accepts(
    model=model_name,
    machines=_machines,
    cards=texts('kinds of cards: ["rtx-4090"]'),
    request=as_request,
    reserve=optional(text('a size such as "1GiB"')),
    packed=flag,
    trust_remote_code=flag,
    revision=optional(text("a branch, tag or commit as text")),
    verify=flag,
    timeout_s=time_limit,
    progress=function,
)
@in_time
@exclusively
def fit(
    model: str | NamedInFile,
    machines: Sequence[MachineLike] = (),
    *,
    cards: Sequence[str] = (),
    request: WorkloadRequest | None = None,
    reserve: str | None = None,
    packed: bool = False,
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
    request
        Batch, context and dtypes that have to fit; what is None is left to the model.
    reserve
        Kept free on each card of `cards` and of machines given as text.
    packed, trust_remote_code, revision, timeout_s, progress
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
                    request=WorkloadRequest(context_tokens=32768)).rows[0].offer.label
    """
    kinds = tuple(dict.fromkeys(checked_kind(kind) for kind in cards))
    read = [as_machine("machines", machine, reserve=reserve) for machine in machines]
    if not kinds and not read:
        raise InputError(
            "nothing to choose from: give machines (--gpus 2x24GiB, as often as you like) or kinds "
            "of cards (--card a100-80gb)"
        )
    offered = (*read, *(of_kind(kind, 1, reserve).machine for kind in kinds))
    studied = study(
        model,
        request or WorkloadRequest(),
        offered,
        packed=packed,
        trust_remote_code=trust_remote_code,
        revision=revision,
        of_tokens="fit",
        progress=progress,
    )
    progress(f"planning for {len(offered)} machines")
    named = named_offers(read)

    padded = padded_activations(studied)

    def pairs(known: ProfiledModel) -> list[Pair]:
        on = partial(forms_on, known, padded=padded)
        return [*_named(on, named), *_of_kinds(on, kinds, reserve)]

    studied = run_as_long_as_fits(studied, lambda known: _longest(_lightest(pairs(known))))
    rows = [row_of(offer, form) for offer, form in pairs(studied)]
    if verify:
        rows = prove_best(rows, progress)
    return FitResult(
        identity=studied.identity,
        workload=studied.workload,
        rows=in_order([row.row for row in rows]),
        notes=studied.notes,
    )


Pair = tuple[Offer, Form]


FormsOn = Callable[[Machine], tuple[Form, ...]]


def _named(forms_of: FormsOn, offers: Sequence[Offer]) -> Iterator[Pair]:
    """Every machine with every form of the model."""
    for offer in offers:
        for form in forms_of(offer.machine):
            yield offer, form


def _of_kinds(forms_of: FormsOn, kinds: Sequence[str], reserve: str | None) -> Iterator[Pair]:
    """The fewest cards of every kind; how many they are depends on the form."""
    for kind in kinds:
        for form in forms_of(of_kind(kind, 1, reserve).machine):
            yield fewest_of_kind(kind, form.graph, form.studied.workload, reserve), form


def _lightest(pairs: Sequence[Pair]) -> list[Pair]:
    """Of each machine the lightest precision: it holds the most tokens."""
    return list({offer.label: (offer, form) for offer, form in pairs}.values())


def _longest(pairs: Sequence[Pair]) -> int:
    """The most tokens that any row holds."""
    plans = (form.plan_tokens(form.graph, offer.machine) for offer, form in pairs)
    return max((p.workload.context_tokens for p in plans if isinstance(p, Plan)), default=0)
