"""``devplan check``: whether a device map will run, and what it costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.printing import say
from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
    DeviceMapStrategy,
    Frames,
    Images,
    ImageSize,
    Inputs,
    MainDevice,
    MapBatch,
    MapContext,
    MapGpus,
    MapMemory,
    MapModel,
    MapPacked,
    Tiling,
    Timeout,
    TrustRemoteCode,
)
from devplan.io import out, prose, visible

if TYPE_CHECKING:
    from devplan.cli.check_options import AskedCheck, CheckTyped
    from devplan.cli.settings import Settings
    from devplan.core import CheckResult, DeviceMap, Environment

FINDINGS = 1
COULD_NOT_RUN = 2
OLD_BASELINE = (
    "was written by an earlier devplan and cannot tell all findings apart; write it again with "
    "--write-baseline"
)


def check_command(
    maps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MAP]...",
            help="Map files: devplan's own, or a device_map in YAML or JSON (hf_device_map).",
            show_default=False,
        ),
    ] = None,
    model: MapModel = None,
    gpus: MapGpus = None,
    memory: MapMemory = None,
    main: MainDevice = None,
    reserve: Annotated[
        str | None, typer.Option("--reserve", metavar="SIZE", help="Kept free on each card.")
    ] = None,
    offload: Annotated[
        list[str] | None,
        typer.Option("--offload", metavar="TIER[=SIZE]", help="Offload that is meant. Repeat."),
    ] = None,
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="auto|all|generate|forward|WAYS|FILE.py:FUNCTION",
            help="Calls to make. auto (the default): the usual call, and short ones with a padded "
            "batch, text alone, a video, beam search and labels where the class takes them; some "
            "of these: batch,text,video,beams,loss. Your own function gets the model and inputs.",
        ),
    ] = "auto",
    generation: Annotated[
        list[str] | None,
        typer.Option(
            "--generate", metavar="NAME=VALUE", help="An argument of generate, num_beams=2. Repeat."
        ),
    ] = None,
    batch: MapBatch = None,
    context: MapContext = None,
    images: Images = None,
    image_size: ImageSize = None,
    frames: Frames = None,
    tiling: Tiling = None,
    packed: MapPacked = False,
    inputs: Inputs = None,
    device_map: DeviceMapStrategy = None,
    form: Annotated[
        str, typer.Option("--format", metavar="text|json|sarif|github|junit", help="Of the report.")
    ] = "text",
    output: Annotated[
        str | None,
        typer.Option(
            "-o", "--output", metavar="FILE", help="Write the report to a file; - is stdout."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Take warnings as errors.")] = False,
    require_run: Annotated[
        bool,
        typer.Option(
            "--require-run", help="Fail when a call or a step that was asked for did not run."
        ),
    ] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", metavar="CODE=REASON", help="Accept a rule's findings. Repeat."),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="FILE", help="Accept the findings that stand there."),
    ] = None,
    write_baseline: Annotated[
        bool, typer.Option("--write-baseline", help="Write what is found to --baseline.")
    ] = False,
    timeout_s: Timeout = None,
    full: Annotated[
        bool, typer.Option("--full", help="Run every layer, also where layers are alike.")
    ] = False,
    here: Annotated[
        bool,
        typer.Option("--here", help="Compare with this machine too, as `devplan doctor` does."),
    ] = False,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Check device maps: names, memory, structure, and what the model's code does when split.

    \b
    devplan check maps/qwen2.5-vl-7b__24+12gib.yaml
    devplan check hf_device_map.json --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    from devplan.checker import (
        Baseline,
        apply_baseline,
        ignore_codes,
        read_baseline,
        requiring_runs,
        strictly,
    )
    from devplan.cli.check_options import CheckTyped, read_check_options
    from devplan.cli.delivery import look_at_output
    from devplan.cli.settings import load_settings
    from devplan.core import InputError
    from devplan.io import refuse_unwritable
    from devplan.report import known_format

    typed = CheckTyped(
        maps=maps or (),
        model=model,
        gpus=gpus,
        memory=memory,
        main=main,
        reserve=reserve,
        offload=offload or (),
        run=run,
        generation=generation or (),
        batch=batch,
        context=context,
        images=images,
        image_size=image_size,
        frames=frames,
        tiling=bool(tiling),
        packed=packed,
        inputs=inputs,
        device_map=device_map,
        ignore=ignore or (),
        timeout_s=timeout_s,
        full=full,
        here=here,
        trust_remote_code=trust_remote_code,
    )
    known_format(form)
    if write_baseline and baseline is None:
        raise InputError("--write-baseline needs the file: --baseline FILE")
    if write_baseline:
        refuse_unwritable(baseline, option="--baseline")
    else:
        look_at_output(output)
    known = read_baseline(baseline) if baseline and not write_baseline else Baseline()
    settings = load_settings(Path.cwd())
    asked = read_check_options(typed, settings)
    results, refused = _check_all(typed, asked, settings)
    results = [ignore_codes(result, asked.ignores) for result in results]
    if write_baseline:
        _write_baseline(results, Path(baseline))
        return COULD_NOT_RUN if refused else 0
    if baseline:
        results = apply_baseline(results, known, Path(baseline).parent)
        if known.is_old:
            say(f"note: {visible(baseline)} {OLD_BASELINE}", to_stderr=True)
    if require_run:
        results = [requiring_runs(result) for result in results]
    if strict:
        results = [strictly(result) for result in results]
    _show(results, form, output)
    if refused:
        return COULD_NOT_RUN
    return 0 if all(result.is_clean for result in results) else FINDINGS


def _check_all(
    typed: CheckTyped, asked: AskedCheck, settings: Settings
) -> tuple[list[CheckResult], int]:
    """The results of all maps that could be checked, and how many could not."""
    from devplan.core import InputError
    from devplan.environment import read_environment
    from devplan.mapfile import read_device_map

    results, refused = [], 0
    with progress_on_stderr() as progress:
        environment = read_environment() if typed.here else None
        for name in typed.maps or (None,):
            try:
                progress(f"checking {name or typed.device_map}")
                given = read_device_map(name) if name else None
                results.append(_check_one(given, typed, asked, settings, environment))
            except InputError as error:
                if len(typed.maps) < 2:
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
    given: DeviceMap | None,
    typed: CheckTyped,
    asked: AskedCheck,
    settings: Settings,
    environment: Environment | None,
) -> CheckResult:
    from devplan.checker import RunOptions, check
    from devplan.cli.check_options import machine_of, main_device_of, model_of, workload_of

    return check(
        model_of(typed, given, settings),
        given or typed.device_map,
        machine=machine_of(typed, given, settings),
        main_device=main_device_of(typed),
        workload=workload_of(typed, given, settings),
        packed=asked.packed,
        options=RunOptions(
            run=asked.run,
            generation=asked.generation,
            images=asked.images,
            image_size=asked.image_size,
            frames=asked.frames,
            tiling=asked.tiling,
            inputs=asked.inputs,
            full=asked.full,
            timeout_s=asked.timeout_s,
        ),
        trust_remote_code=asked.trust_remote_code,
        environment=environment,
    )


def _write_baseline(results: list[CheckResult], path: Path) -> None:
    from devplan.checker import baseline_text
    from devplan.io import write_text

    number = sum(len(result.errors) + len(result.warnings) for result in results)
    write_text(baseline_text(results, path.parent), path, option="--baseline")
    say(f"wrote {visible(str(path))} with {number} finding{'' if number == 1 else 's'}")


def _show(results: list[CheckResult], form: str, output: str | None) -> None:
    from devplan.cli.delivery import deliver
    from devplan.report import check_report, terminal_of

    commands = form == "github"
    to_file = deliver(
        lambda terminal: check_report(results, form, terminal), output, commands=commands
    )
    if to_file and form != "text":  # people who follow the log of a CI run see the findings too
        say(check_report(results, "text", terminal_of(out())), end="")
