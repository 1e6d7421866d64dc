"""``devplan diff``: what changes from one map to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.cli.command import Argument, Options, command
from devplan.cli.options import (
    FOR_MAP,
    FORMAT,
    INPUTS,
    REPORT,
    RESERVE,
    TIMEOUT,
    TRUST_REMOTE_CODE,
    from_map,
)
from devplan.cli.precedence import (
    machine_for_map,
    main_device_for_map,
    run_options,
    workload_for_map,
)
from devplan.cli.printing import deliver_table, look_at_output, progress_on_stderr

if TYPE_CHECKING:
    from devplan.mapfile import MapLike
    from devplan.workflows import MapDiff

DIFFERENT = 1

BEFORE = Argument(
    "before",
    metavar="A",
    help="A map file, as for check, or auto, balanced, balanced_low_0 or sequential.",
)
AFTER = Argument("after", metavar="B", help="Another of these.")


@command(
    *("diff", BEFORE, AFTER, *FOR_MAP, from_map(RESERVE), INPUTS, TIMEOUT, FORMAT, REPORT),
    TRUST_REMOTE_CODE,
)
def diff_command(options: Options) -> int:
    """Show what changes from map A to map B: entries, memory, copies and most tokens.

    The exit status is that of diff: 0 if every tensor is on the same device, 1 if some are not, 2
    for bad input.

    \b
    devplan diff maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml auto
    devplan diff old.json new.json --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    look_at_output(options.report)
    found = _diff(options)
    from devplan.report import diff_json, diff_text

    deliver_table(
        lambda: diff_json(found),
        lambda terminal: diff_text(found, terminal),
        options.form,
        options.report,
    )
    return 0 if found.is_same else DIFFERENT


def _diff(options: Options) -> MapDiff:
    from devplan.core import DeviceMap
    from devplan.workflows import diff

    maps: list[MapLike] = [_read(name) for name in (options.before, options.after)]
    given = [each for each in maps if isinstance(each, DeviceMap)]
    says_machine = any(each.machine for each in given) and not options.typed("gpus")
    says_model = any(each.model for each in given)
    sized = next((each for each in given if each.workload), None)
    with progress_on_stderr() as progress:
        return diff(
            options.typed("model") or (None if says_model else options.set("model")),
            *maps,
            machine=None if says_machine else machine_for_map(options, None),
            main_device=main_device_for_map(options),
            workload=workload_for_map(options, sized),
            packed=options.packed,
            quantize=options.typed("quantize"),
            options=run_options(options),
            trust_remote_code=options.trust_remote_code,
            progress=progress,
        )


def _read(name: str) -> MapLike:
    """A map file, or the name of a strategy."""
    from devplan.checker import STRATEGIES
    from devplan.mapfile import read_device_map

    return name if name in STRATEGIES else read_device_map(name)
