"""The planner's way for a pipeline: its components over the cards, in bytes only.

What is asked of a model that generates tokens, the most of them or the least time for them, has no
meaning here and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from devplan.core import BlockGraph, Infeasible, InputError, Machine, Plan, Workload
from devplan.planning.components import plan_components
from devplan.planning.planner import Alternatives, plan

OBJECTIVES = ("balance", "fewest")


def plan_pipeline(
    graph: BlockGraph,
    machine: Machine,
    workload: Workload,
    *,
    objective: str,
    pins: Mapping[str, str],
    default_pins: bool = True,
    alternatives: Alternatives | None = None,
) -> Plan | Infeasible:
    """The best placement of a pipeline, verified; the parameters are those of `plan`.

    Raises
    ------
    InputError
        For an objective that is about tokens, and as `plan` does.
    """
    if objective not in OBJECTIVES:
        raise InputError(
            f"--objective {objective} is for models that generate tokens, and this is a pipeline; "
            f"give {' or '.join(OBJECTIVES)}"
        )

    def plan_graph(
        graph: BlockGraph, machine: Machine, pins: Mapping[str, str]
    ) -> Plan | Infeasible:
        return plan(
            graph,
            machine,
            workload,
            objective=objective,
            pins=pins,
            default_pins=default_pins,
            alternatives=alternatives,
        )

    return plan_components(
        graph,
        machine,
        workload,
        plan_graph,
        pins=pins,
        default_pins=default_pins,
        fewest=objective == "fewest",
    )
