"""``devplan suggest``: the best device map of a model for a machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from devplan.cli.gpus import or_list
from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
    Context,
    Frames,
    Images,
    ImageSize,
    Inputs,
    MainDevice,
    Tiling,
    Timeout,
    TrustRemoteCode,
)

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
            callback=or_list,
            is_eager=True,
            help="Local indices (0,1), sizes (24GiB,12GiB), counts (2x24GiB), names "
            "(2xa100-80gb,rtx-4090), mixed, or all. The first is the main device. list: print the "
            "names.",
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
    context: Context = None,
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
    run: Annotated[
        str,
        typer.Option(
            "--run",
            metavar="auto|forward|all",
            help="Calls to plan for: auto (the default) as the class is used, mostly generate; "
            "forward over all positions; all: both.",
        ),
    ] = "auto",
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
    timeout_s: Timeout = None,
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
    from devplan.cli.settings import load_settings
    from devplan.cli.suggested import look_at_default, look_at_target, show

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
    if asked.output is not None:
        look_at_target(asked.output, force=force)
    with progress_on_stderr() as progress:
        from devplan.workflows import suggest

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
            run=run,
            verify=not no_verify,
            on_studied=partial(look_at_default, asked=asked, force=force),
            timeout_s=timeout_s,
            progress=progress,
        )
    return show(suggestion, asked, json=json, force=force, explain=explain)
