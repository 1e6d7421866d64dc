"""``devplan compare``: devplan's map beside those of accelerate and transformers."""

from __future__ import annotations

from devplan.cli.command import Options, command
from devplan.cli.options import (
    FORMAT,
    GPUS,
    MAIN,
    MEMORY,
    MODEL,
    NO_PIN,
    OBJECTIVE,
    PIN,
    QUANTIZE,
    REPORT,
    RESERVE,
    REVISION,
    TIMEOUT,
    TRUST_REMOTE_CODE,
    WORKLOAD,
)
from devplan.cli.precedence import planned_machine, planned_model, planned_pins, planned_workload
from devplan.cli.printing import deliver_table, look_at_output, progress_on_stderr

NOT_CLEAN = 1


@command(
    *("compare", MODEL, GPUS, MEMORY, MAIN, RESERVE, *WORKLOAD, QUANTIZE, OBJECTIVE, PIN),
    *(NO_PIN, TIMEOUT, FORMAT, REPORT, REVISION, TRUST_REMOTE_CODE),
)
def compare_command(options: Options) -> int:
    """Compare devplan's map of MODEL with those of accelerate and transformers.

    Every map is run virtually.  The objective and the pins are those of devplan's map.

    \b
    devplan compare Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768
    """
    look_at_output(options.report)
    model, machine = planned_model(options), planned_machine(options)
    workload, pins = planned_workload(options), planned_pins(options)
    with progress_on_stderr() as progress:
        from devplan.workflows import compare

        progress("starting")
        comparison = compare(
            model,
            machine,
            workload,
            objective=options.objective,
            pins=pins,
            default_pins=not options.no_pin,
            quantize=options.typed_or_set("quantize"),
            trust_remote_code=options.trust_remote_code,
            revision=options.revision,
            timeout_s=options.timeout_s,
            progress=progress,
        )
    from devplan.report import compare_json, compare_text

    deliver_table(
        lambda: compare_json(comparison),
        lambda terminal: compare_text(comparison, terminal),
        options.form,
        options.report,
    )
    return 0 if comparison.own.is_clean else NOT_CLEAN
