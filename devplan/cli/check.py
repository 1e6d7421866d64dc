"""``devplan check``: whether a device map will run, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from devplan.cli.command import Argument, Options, command
from devplan.cli.options import (
    BASELINE,
    CALLS,
    FINDINGS_FORMAT,
    FOR_MAP,
    FRAMES,
    FULL,
    GENERATION,
    HERE,
    IGNORE,
    INPUTS,
    OFFLOAD,
    REPORT,
    REQUIRE_RUN,
    RESERVE,
    STRATEGY,
    STRICT,
    TILING,
    TIMEOUT,
    TRUST_REMOTE_CODE,
    WRITE_BASELINE,
    from_map,
)
from devplan.cli.precedence import (
    machine_for_map,
    main_device_for_map,
    model_for_map,
    quantize_for_map,
    refuse_without_map,
    run_options,
    workload_for_map,
)
from devplan.cli.printing import deliver, look_at_output, progress_on_stderr, say
from devplan.core import InputError
from devplan.io import out, prose, refuse_unwritable, visible

if TYPE_CHECKING:
    from devplan.checker import Baseline
    from devplan.core import CheckResult, DeviceMap, Environment

FINDINGS = 1
COULD_NOT_RUN = 2
OLD_BASELINE = (
    "was written by an earlier devplan and cannot tell all findings apart; write it again with "
    "--write-baseline"
)


MAPS = Argument(
    "maps",
    metavar="[MAP]...",
    nargs=-1,
    required=False,
    help="Map files: devplan's own, or a device_map in YAML or JSON (hf_device_map).",
)


@command(
    *("check", MAPS, *FOR_MAP, from_map(RESERVE), from_map(OFFLOAD), FRAMES, TILING, STRATEGY),
    *(CALLS, GENERATION, INPUTS, FULL, TIMEOUT, HERE, FINDINGS_FORMAT, REPORT, STRICT, REQUIRE_RUN),
    *(IGNORE, BASELINE, WRITE_BASELINE, TRUST_REMOTE_CODE),
)
def check_command(options: Options) -> int:
    """Check device maps: names, memory, structure, and virtual runs of the split model.

    Command-line options override the map.

    \b
    devplan check maps/qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml
    devplan check hf_device_map.json --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    from devplan.checker import ignore_codes

    _look_at_files(options)
    known = _baseline(options)
    ignores = _ignores(options)
    _refuse_generation_of_no_generate(options)
    refuse_without_map(options, options.maps)
    results, refused = _check_all(options)
    results = [ignore_codes(result, ignores) for result in results]
    if options.write_baseline:
        _write_baseline(results, Path(options.baseline))
        return COULD_NOT_RUN if refused else 0
    results = _judged(results, known, options)
    _show(results, options.form, options.report)
    if refused:
        return COULD_NOT_RUN
    return 0 if all(result.is_clean for result in results) else FINDINGS


def _look_at_files(options: Options) -> None:
    """Refuse a file that cannot be written before the work whose result goes there."""
    if options.write_baseline and options.baseline is None:
        raise InputError("--write-baseline needs the file: --baseline FILE")
    if options.write_baseline:
        refuse_unwritable(options.baseline, option="--baseline")
    else:
        look_at_output(options.report)


def _baseline(options: Options) -> Baseline | None:
    """The findings that are accepted; None where no file lists them."""
    from devplan.checker import read_baseline

    if options.baseline is None or options.write_baseline:
        return None
    return read_baseline(options.baseline)


def _ignores(options: Options) -> Mapping[str, str]:
    """Code of a rule -> why its findings are accepted: the settings', and those that were typed."""
    from devplan.checker import checked_ignores, parse_ignores

    in_settings = options.set("ignore") or {}
    ignores = checked_ignores(in_settings, options.settings.where("ignore"))
    return {**ignores, **parse_ignores(options.ignores)}


def _refuse_generation_of_no_generate(options: Options) -> None:
    from devplan.checker import checked_run

    run = checked_run(options.run)
    if options.generation and (run == "forward" or ":" in run):
        raise InputError(f"--generate gives arguments of generate, but --run is {run}")


def _judged(
    results: list[CheckResult], known: Baseline | None, options: Options
) -> list[CheckResult]:
    """The results less the findings that are accepted, as strictly as the options say."""
    from devplan.checker import apply_baseline, requiring_runs, strictly

    if known is not None:
        results = apply_baseline(results, known, Path(options.baseline).parent)
        if known.is_old:
            say(f"note: {visible(options.baseline)} {OLD_BASELINE}", to_stderr=True)
    if options.require_run:
        results = [requiring_runs(result) for result in results]
    return [strictly(result) for result in results] if options.strict else results


def _check_all(options: Options) -> tuple[list[CheckResult], int]:
    """The results of all maps that could be checked, and how many could not."""
    from devplan.environment import read_environment
    from devplan.mapfile import read_device_map

    results, refused = [], 0
    with progress_on_stderr() as progress:
        environment = read_environment() if options.here else None
        for name in options.maps or (None,):
            try:
                progress(f"checking {name or options.device_map}")
                given = read_device_map(name) if name else None
                results.append(_check_one(given, options, environment))
            except InputError as error:
                if len(options.maps) < 2:
                    raise
                # One file that is no map must not hide the findings of the others.
                say(f"devplan: {prose(_naming(str(name), error))}", to_stderr=True)
                refused += 1
    return results, refused


def _naming(name: str, error: Exception) -> str:
    """The message, behind the map that it is about where it does not name that itself."""
    said = " ".join(str(error).split())
    return said if Path(name).as_posix() in said else f"{name}: {said}"


def _check_one(
    given: DeviceMap | None, options: Options, environment: Environment | None
) -> CheckResult:
    from devplan.checker import check

    return check(
        model_for_map(options, given),
        given or options.device_map,
        machine=machine_for_map(options, given),
        main_device=main_device_for_map(options),
        workload=workload_for_map(options, given),
        packed=options.packed,
        quantize=quantize_for_map(options, given),
        options=run_options(options),
        trust_remote_code=options.trust_remote_code,
        environment=environment,
    )


def _write_baseline(results: list[CheckResult], path: Path) -> None:
    from devplan.checker import baseline_text
    from devplan.io import write_text

    number = sum(len(result.errors) + len(result.warnings) for result in results)
    write_text(baseline_text(results, path.parent), path, option="--baseline")
    say(f"wrote {visible(str(path))} with {number} finding{'' if number == 1 else 's'}")


def _show(results: list[CheckResult], form: str, output: str | None) -> None:
    from devplan.report import check_report, terminal_of

    commands = form == "github"
    to_file = deliver(
        lambda terminal: check_report(results, form, terminal), output, commands=commands
    )
    if to_file and form != "text":  # people who follow the log of a CI run see the findings too
        say(check_report(results, "text", terminal_of(out())), end="")
