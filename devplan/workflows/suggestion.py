"""What `devplan.suggest` found: a map, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from devplan.core import (
    BlockGraph,
    CheckResult,
    DeviceMapFile,
    Finding,
    Infeasible,
    InputError,
    ModelIdentity,
    Plan,
    Workload,
)
from devplan.models import ModelSource


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What `suggest` found: a plan with its map file, or why there is none."""

    source: ModelSource
    identity: ModelIdentity
    graph: BlockGraph
    workload: Workload
    """What the plan is for: as asked, and what was not asked as the model has it; for the objective
    ``context`` with as many tokens as were found to fit."""
    result: Plan | Infeasible
    map_file: DeviceMapFile | None
    """None when nothing fits."""
    check: CheckResult | None = None
    """What the virtual run of the plan found; None: it was not run."""
    errors: tuple[Finding, ...] = ()
    """What of it stops the model: no plan was found that runs."""
    cures: tuple[str, ...] = ()
    """What else was tried then and ran, in words."""
    notes: tuple[str, ...]
    """What people should know of how this came about."""

    @property
    def checked_map(self) -> DeviceMapFile:
        """The map, for who needs one.

        Raises
        ------
        InputError
            When nothing fits, with the numbers and what would, or when no plan was found that runs.
        """
        if isinstance(self.result, Infeasible):
            change = self.result.remedies[0].change if self.result.remedies else "give larger cards"
            raise InputError(
                f"there is no map of {self.identity.id}, as nothing fits: {self.result.reason}; "
                f"what would make it fit: {change}"
            )
        if self.errors or self.map_file is None:
            first = f"{self.errors[0].code}, {self.errors[0].message}" if self.errors else "unknown"
            raise InputError(
                f"no plan of {self.identity.id} was found that runs: {first}; see .check, and "
                ".cures for what was tried; .map_file is the map that does not run"
            )
        return self.map_file
