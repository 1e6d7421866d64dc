"""``devplan fit``: which machines and precisions hold a model, and how much they hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from devplan.cli.command import Options, command
from devplan.cli.options import (
    CARD,
    FORMAT,
    MACHINES,
    MODEL,
    NO_VERIFY,
    PACKED,
    QUANTIZE,
    REPORT,
    RESERVE,
    REVISION,
    TIMEOUT,
    TRUST_REMOTE_CODE,
    WORKLOAD,
)
from devplan.cli.precedence import planned_model, planned_workload, read_machine
from devplan.cli.printing import deliver_table, look_at_output, progress_on_stderr

if TYPE_CHECKING:
    from devplan.core import Machine

NOTHING_FITS = 1


@command(
    *("fit", MODEL, MACHINES, CARD, *WORKLOAD, QUANTIZE, RESERVE, PACKED),
    *(NO_VERIFY.but(help="Skip the virtual runs of the best rows."), TIMEOUT, FORMAT, REPORT),
    *(REVISION, TRUST_REMOTE_CODE),
)
def fit_command(options: Options) -> int:
    """Find the machines and precisions that hold MODEL.

    Each row shows the longest context and the largest batch of a machine and a precision; of a kind
    of GPU, the fewest that suffice.

    \b
    devplan fit Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --gpus 2x24GiB --context 32768
    devplan fit Qwen/Qwen2.5-72B-Instruct --card a100-80gb --card rtx-4090 --context 32768
    """
    look_at_output(options.report)
    model, workload = planned_model(options), planned_workload(options)
    machines = _machines(options)
    with progress_on_stderr() as progress:
        from devplan.workflows import fit

        progress("starting")
        result = fit(
            model,
            machines,
            cards=options.card,
            workload=workload,
            reserve=options.reserve,
            packed=options.packed,
            quantize=options.typed_or_set("quantize"),
            trust_remote_code=options.trust_remote_code,
            revision=options.revision,
            verify=not options.no_verify,
            timeout_s=options.timeout_s,
            progress=progress,
        )
    from devplan.report import fit_json, fit_text

    deliver_table(
        lambda: fit_json(result),
        lambda terminal: fit_text(result, terminal),
        options.form,
        options.report,
    )
    return 0 if result.fits else NOTHING_FITS


def _machines(options: Options) -> list[Machine]:
    """The machines as typed; that of the project where neither machines nor kinds were."""
    if options.machines or options.card:
        machines = [read_machine(options, gpus, is_typed=True) for gpus in options.machines]
    else:
        gpus = options.set("gpus")
        machines = [read_machine(options, gpus, is_typed=False)] if gpus else []
    # [tiers] what has to be offloaded does not fit.
    return [replace(machine, tiers=()) for machine in machines]
