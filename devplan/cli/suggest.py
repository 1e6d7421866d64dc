"""``devplan suggest``: the best device map of a model for a machine."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
    Frames,
    Images,
    ImageSize,
    Inputs,
    MainDevice,
    Tiling,
    TrustRemoteCode,
)

if TYPE_CHECKING:
    from devplan.cli.options import Asked
    from devplan.suggesting import Suggestion
    from devplan.types import Workload

DOES_NOT_FIT = 1
DOES_NOT_RUN = 1
STDOUT = "-"

_MACHINE = "Machine"
_WORKLOAD = "Workload"
_PLAN = "Plan"
_OUTPUT = "Output"


def suggest_command(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="MODEL",
            help="Catalogue name, folder with config.json, hub id, or package.module:factory. "
            "Default: model of devplan.yaml.",
            show_default=False,
        ),
    ] = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            metavar="CARDS",
            help="Local indices (0,1), sizes (24GiB,12GiB), counts (2x24GiB), names "
            "(2xa100-80gb,rtx-4090), mixed, or all. The first is the main device.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZES",
            help="Sizes of the cards given by index: plan for cards that are not here.",
        ),
    ] = None,
    main: MainDevice = None,
    reserve: Annotated[
        str | None,
        typer.Option(
            "--reserve",
            metavar="SIZE",
            help="Kept free on each card: 1GiB, one size a card, or 0=2GiB,1=1GiB. "
            "Default: 1 GiB, at most an eighth of the card.",
        ),
    ] = None,
    links: Annotated[
        str | None,
        typer.Option(
            "--links",
            metavar="LINKS",
            help="What joins the cards: pcie4x16, pcie4x16-host, nvlink, 50GB/s, measured; some "
            "of them: 0-1:nvlink,pcie3x8-host. Default: by their names.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option("--batch", metavar="NUMBER", help="Sequences at a time. Default: 1."),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            "--context",
            metavar="TOKENS",
            help="Tokens held per sequence, prompt and new ones. Default: 4096, or what the model "
            "supports if that is less.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", metavar="DTYPE", help="Compute dtype. Default: as the checkpoint says."
        ),
    ] = None,
    kv_dtype: Annotated[
        str | None,
        typer.Option(
            "--kv-dtype",
            metavar="DTYPE",
            help="Dtype of the KV cache. Default: as the model makes it.",
        ),
    ] = None,
    images: Images = None,
    image_size: ImageSize = None,
    frames: Frames = None,
    tiling: Tiling = None,
    inputs: Inputs = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="balance|context|fewest|latency",
            help="Smallest largest share of a card (default), most tokens, fewest cards, or least "
            "time of a request.",
        ),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="MODULE=DEVICE", help="Put a module on a device. Repeat."),
    ] = None,
    no_pin: Annotated[
        bool | None,
        typer.Option("--no-pin", help="Do not keep embedding, towers and head on the main device."),
    ] = None,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Count quantized weights as stored, also where transformers unpacks them.",
        ),
    ] = False,
    offload: Annotated[
        list[str] | None,
        typer.Option(
            "--offload",
            metavar="TIER[=SIZE]",
            help="Allow offload: cpu=64GiB, cpu, disk. Repeat. Never without being asked for.",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The map file; - is stdout. Default: maps/<model>__<machine>__<workload>.yaml.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a map file that holds something else.")
    ] = False,
    no_verify: Annotated[
        bool,
        typer.Option(
            "--no-verify", help="Do not run the plan virtually; the map says that it is unverified."
        ),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the sum of each card is made of.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON, for programs.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
    ] = None,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Compute the best device map of MODEL for a machine and write it.

    \b
    devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768
    devplan suggest ./my-checkpoint --gpus 0,1
    """
    from devplan.cli.options import Typed, read_options
    from devplan.settings import load_settings

    typed = Typed(
        model=model,
        gpus=gpus,
        memory=memory,
        main=main,
        reserve=reserve,
        links=links,
        batch=batch,
        context=context,
        dtype=dtype,
        kv_dtype=kv_dtype,
        images=images,
        image_size=image_size,
        frames=frames,
        tiling=tiling,
        objective=objective,
        pin=pin or (),
        no_pin=no_pin,
        offload=offload or (),
        output=output,
    )
    asked = read_options(typed, load_settings(Path.cwd()))
    with progress_on_stderr() as progress:
        from devplan.suggesting import suggest

        progress("starting")
        suggestion = suggest(
            asked.model,
            asked.machine,
            asked.workload,
            objective=asked.objective,
            pins=asked.pins,
            default_pins=asked.default_pins,
            packed=packed,
            trust_remote_code=trust_remote_code,
            revision=revision,
            inputs=inputs,
            verify=not no_verify,
            progress=progress,
        )
    if suggestion.map_file is None:
        return _show_infeasible(suggestion, asked, json)
    if suggestion.errors:
        return _show_broken(suggestion, asked, json)
    return _write_and_show(suggestion, asked, json=json, force=force, explain=explain)


def _show_infeasible(suggestion: Suggestion, asked: Asked, json: bool) -> int:
    from devplan import report

    about = (suggestion.result, suggestion.identity, asked.machine, suggestion.workload)
    if json:
        print(report.infeasible_json(*about, suggestion.notes), end="")
    else:
        terminal = report.terminal_of(sys.stdout)
        print(report.infeasible_text(*about, terminal, suggestion.notes), end="")
        _print_notes(asked.notes)
    return DOES_NOT_FIT


def _show_broken(suggestion: Suggestion, asked: Asked, json: bool) -> int:
    """No plan was found that runs: what stops the best one; nothing is written."""
    from devplan import report
    from devplan.report.findings import check_report

    terminal = report.terminal_of(sys.stdout)
    found = [suggestion.check]
    print(check_report(found, "json", terminal) if json else check_report(found, "text", terminal))
    constraints = suggestion.map_file.constraints
    for advice in report.does_not_run(suggestion.errors, constraints, suggestion.cures):
        lines = terminal.paragraph(advice, first="")
        print("\n".join(lines), file=sys.stderr if json else sys.stdout)
    _print_notes(asked.notes)
    return DOES_NOT_RUN


def _write_and_show(
    suggestion: Suggestion, asked: Asked, *, json: bool, force: bool, explain: bool
) -> int:
    from devplan import report
    from devplan.machine import machine_label
    from devplan.mapfile import default_path, dump_map, write_map

    map_file = suggestion.map_file
    named = _named_workload(suggestion, asked)
    label, is_packed = machine_label(asked.machine), map_file.model.packed
    default = default_path(map_file.model.id, label, named, packed=is_packed)
    to_stdout = asked.output == STDOUT
    path = default if to_stdout or asked.output is None else asked.output
    outcome = None if to_stdout else write_map(map_file, path, force=force)
    plan = suggestion.result
    if json:
        print(report.plan_json(plan, map_file, path, written=not to_stdout), end="")
        return 0
    if to_stdout:
        print(dump_map(map_file, path), end="")
    stream = sys.stderr if to_stdout else sys.stdout
    terminal = report.terminal_of(stream)
    text = report.plan_text(plan, map_file, terminal, path, outcome.value if outcome else "")
    if explain:
        text += "\n" + report.sums_text(
            plan, suggestion.graph, map_file, suggestion.check, terminal
        )
    print(text, end="", file=stream)
    _print_notes(asked.notes)
    return 0


def _named_workload(suggestion: Suggestion, asked: Asked) -> Workload:
    """The workload for the name of the file: dtypes only where they were asked for."""
    asked_for = asked.workload
    return replace(suggestion.workload, dtype=asked_for.dtype, kv_dtype=asked_for.kv_dtype)


def _print_notes(notes: tuple[str, ...]) -> None:
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
