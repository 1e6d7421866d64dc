"""A model in one precision on one kind of machine, and how each question about it is planned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from devplan.core import BlockGraph, Infeasible, Machine, Plan
from devplan.planning import plan, plan_most_sequences, plan_most_tokens
from devplan.profile import ActivationProfile, Precision, build_graph, precisions
from devplan.workflows.profiled_model import ProfiledModel, on_machine

NO_PINS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, eq=False)
class Form:
    """A precision of the model, with what runs showed of it."""

    precision: Precision
    rank: int
    """Place among the precisions, the finest first."""
    studied: ProfiledModel
    padded: ActivationProfile
    """Activations of several sequences at once."""

    @cached_property
    def graph(self) -> BlockGraph:
        """With activations at the batch that was asked."""
        return build_graph(self.precision.profile)

    @cached_property
    def padded_graph(self) -> BlockGraph:
        """With activations as they grow with the batch."""
        return build_graph(replace(self.precision.profile, activations=self.padded))

    def plan_asked(
        self, graph: BlockGraph, machine: Machine, pins: Mapping[str, str] = NO_PINS
    ) -> Plan | Infeasible:
        """The most balanced placement at the workload."""
        return plan(graph, machine, self.studied.workload, pins=pins)

    def plan_tokens(
        self, graph: BlockGraph, machine: Machine, pins: Mapping[str, str] = NO_PINS
    ) -> Plan | Infeasible:
        """The most tokens at the batch."""
        limit = self.studied.limit_tokens
        return plan_most_tokens(graph, machine, self.studied.workload, limit=limit, pins=pins)

    def plan_sequences(
        self, graph: BlockGraph, machine: Machine, pins: Mapping[str, str] = NO_PINS
    ) -> Plan | Infeasible:
        """The most sequences at the context."""
        return plan_most_sequences(graph, machine, self.studied.workload, pins=pins)


def forms_on(
    studied: ProfiledModel, machine: Machine, padded: ActivationProfile
) -> tuple[Form, ...]:
    """Every precision of the model, the finest first, as it lies on the cards of a machine."""
    studied = on_machine(studied, machine)
    found = precisions(studied.skeleton, studied.source, studied.profile)
    return tuple(
        Form(precision=precision, rank=rank, studied=studied, padded=padded)
        for rank, precision in enumerate(found)
    )
