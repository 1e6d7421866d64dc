"""The check without a virtual run: names, devices, memory, structure, environment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from devplan.checker.preparation import prepare
from devplan.checker.run import result_of
from devplan.core import CheckResult, Machine, Workload, WorkloadRequest


def check_structure(
    model: Any,
    device_map: Any,
    *,
    machine: Machine | None = None,
    main_device: str | None = None,
    workload: Workload | WorkloadRequest | None = None,
    trust_remote_code: bool = False,
    why: str = "",
) -> CheckResult:
    """What can be said of a map without running the model; DP901 says that nothing ran.

    Parameters
    ----------
    model, device_map, machine, main_device, workload, trust_remote_code
        As `devplan.checker.preparation.prepare` takes them.
    why
        Why nothing is run, for people.

    Raises
    ------
    InputError
        As `devplan.checker.preparation.prepare`.
    """
    context = prepare(
        model,
        device_map,
        machine=machine,
        main_device=main_device,
        workload=workload,
        trust_remote_code=trust_remote_code,
    )
    return result_of(replace(context, not_run=why))
