"""The vocabulary of fit: offers, rows and answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from devplan.core import (
    BlockGraph,
    Infeasible,
    Machine,
    ModelIdentity,
    Workload,
    dtype_name,
)
from devplan.models import ModelSource
from devplan.planning import LARGEST_BATCH, PlanRequest
from devplan.profile import (
    QUANTIZED_BITS,
    ActivationProfile,
    Profile,
    build_graph,
    can_be_quantized,
    how_to_load,
    quantize_word,
    quantized_profile,
    quantized_source,
)
from devplan.workflows.plan_runner import VerifiedPlan
from devplan.workflows.profiled_model import ProfiledModel, on_machine


@dataclass(frozen=True, kw_only=True)
class Offer:
    """A machine to choose from."""

    machine: Machine
    label: str
    kind: str | None = None
    """Kind of card of which the fewest were asked for; None: the machine itself was named."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One offer with one precision of the model."""

    offer: Offer
    precision: str
    """``bfloat16``, ``8 bit``, or the quantization of the checkpoint."""
    precision_rank: int
    """0: as it is stored."""
    load: str
    """Argument of ``from_pretrained`` that gives this precision; empty where none is needed."""
    quantize: str | None
    """What ``--quantize`` of `devplan suggest` gives this precision with; None: nothing."""
    weight_bytes: int
    asked: VerifiedPlan | Infeasible
    """At the workload that was asked."""
    tokens: VerifiedPlan | None = None
    """The most tokens; None where the workload itself does not fit, and where no run showed what
    grows with the tokens."""
    sequences: VerifiedPlan | None = None
    """The largest batch."""
    limit_tokens: int | None = None
    """Longest context that the model supports."""

    @property
    def fits(self) -> bool:
        return isinstance(self.asked, VerifiedPlan) and not self.asked.errors

    @property
    def is_proven(self) -> bool:
        """Whether all three answers were run and nothing was found that stops the model."""
        answers = (self.asked, self.tokens, self.sequences)
        return all(isinstance(answer, VerifiedPlan) and answer.is_proven for answer in answers)

    @property
    def share(self) -> float | None:
        """Largest share of a card at the workload that was asked."""
        return (
            self.asked.plan.certificate.bottleneck if isinstance(self.asked, VerifiedPlan) else None
        )

    @property
    def most_tokens(self) -> int | None:
        """None: nothing grows with the tokens, nothing fits, or it is not known."""
        if self.tokens is None or self.tokens.plan.certificate.most_tokens is None:
            return self.limit_tokens if self.tokens is not None else None
        return self.tokens.workload.tokens

    @property
    def ends_at_model(self) -> bool:
        """Whether the model's own limit ends the context, and not memory."""
        return self.limit_tokens is not None and self.most_tokens == self.limit_tokens

    @property
    def most_sequences(self) -> int | None:
        """None: nothing grows with the batch, nothing fits, or it is not known."""
        batch = self.sequences.workload.batch if self.sequences else None
        return None if batch == LARGEST_BATCH else batch

    @property
    def first_full(self) -> str | None:
        """The card that is full first when the context grows."""
        return self.tokens.plan.certificate.first_full if self.tokens else None

    @property
    def missing_bytes(self) -> int:
        """What the cards lack in the best placement that was found; 0 where it fits."""
        if isinstance(self.asked, VerifiedPlan):
            return 0
        return sum(self.asked.shortfalls.values())

    @property
    def total_bytes(self) -> int:
        """Memory of all cards."""
        return sum(card.capacity_bytes for card in self.offer.machine.cards)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """All rows, the best first."""

    identity: ModelIdentity
    workload: Workload
    """As asked, and what was not asked as the model has it."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether anything does."""
        return any(row.fits for row in self.rows)


def in_order(rows: list[Row]) -> tuple[Row, ...]:
    """The best first: what fits before what does not, then the finer precision, then the least
    memory that is enough, then the emptiest cards; of what does not fit, what lacks least."""

    def place(row: Row) -> tuple:
        if not row.fits:
            return (1, row.missing_bytes, row.precision_rank)
        return (0, row.precision_rank, row.total_bytes, row.share)

    return tuple(sorted(rows, key=place))


# ----------------------------------------------------------------------------------- model variants


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelVariant:
    """A model in one precision on one kind of machine."""

    name: str
    """``bfloat16``, ``8 bit``, or the name of the checkpoint's quantization."""
    load: str = ""
    """Argument of ``from_pretrained`` that gives this precision; empty: as it is stored."""
    rank: int = 0
    """Place among the precisions, the finest first."""
    source: ModelSource
    profile: Profile
    studied: ProfiledModel
    """The model as it is stored."""
    padded: ActivationProfile
    """Activations of several sequences at once."""

    @property
    def weight_bytes(self) -> int:
        return sum(block.weight_bytes for block in self.profile.weights.blocks.values())

    @cached_property
    def graph(self) -> BlockGraph:
        """With activations at the batch that was asked."""
        return build_graph(self.profile)

    @cached_property
    def padded_graph(self) -> BlockGraph:
        """With activations as they grow with the batch."""
        return build_graph(replace(self.profile, activations=self.padded))

    def request(self, machine: Machine, objective: str = "balance") -> PlanRequest:
        """A question about the model on a machine: at the workload, or the most that fits."""
        return PlanRequest(
            machine=machine,
            workload=self.studied.workload,
            objective=objective,
            limit_tokens=self.studied.limit_tokens,
        )


def variants_on(
    studied: ProfiledModel, machine: Machine, padded: ActivationProfile
) -> tuple[ModelVariant, ...]:
    """The model on the cards of a machine: as it is stored, then in 8 and 4 bit where possible."""
    studied = on_machine(studied, machine)
    source, profile = studied.source, studied.profile
    stored = ModelVariant(
        name=profile.weights.quantization or dtype_name(studied.skeleton.dtype),
        source=source,
        profile=profile,
        studied=studied,
        padded=padded,
    )
    if not can_be_quantized(profile, source):
        return (stored,)
    in_bits = (
        (rank, bits, quantized_source(source, quantize_word(bits)))
        for rank, bits in enumerate(QUANTIZED_BITS, start=1)
    )
    quantized = (
        replace(
            stored,
            name=f"{bits} bit",
            load=f"quantization_config={how_to_load(bits)}",
            rank=rank,
            source=quantized,
            profile=quantized_profile(profile, studied.skeleton, quantized),
        )
        for rank, bits, quantized in in_bits
    )
    return (stored, *quantized)
