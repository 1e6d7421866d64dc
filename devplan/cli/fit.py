"""``devplan fit``: which machines and precisions hold a model, and how much they hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.gpus import or_list
from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
    Batch,
    Context,
    Dtype,
    Images,
    ImageSize,
    KvDtype,
    ModelArgument,
    Reserve,
    Revision,
    TableFormat,
    TableOutput,
    Timeout,
    TrustRemoteCode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from devplan.cli.options import Typed
    from devplan.cli.settings import Settings
    from devplan.core import Machine

NOTHING_FITS = 1


def fit_command(
    model: ModelArgument = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            "--gpus",
            metavar="CARDS",
            callback=or_list,
            is_eager=True,
            help="A machine, as for suggest. Repeat: one row each.",
        ),
    ] = None,
    card: Annotated[
        list[str] | None,
        typer.Option(
            "--card",
            metavar="KIND",
            callback=or_list,
            is_eager=True,
            help="A kind of card (a100-80gb, 24GiB): how many are needed? Repeat.",
        ),
    ] = None,
    batch: Batch = None,
    context: Context = None,
    dtype: Dtype = None,
    kv_dtype: KvDtype = None,
    images: Images = None,
    image_size: ImageSize = None,
    reserve: Reserve = None,
    packed: Annotated[
        bool,
        typer.Option(
            "--packed",
            help="Count quantized weights as stored, also where transformers unpacks them.",
        ),
    ] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not run the best rows virtually.")
    ] = False,
    timeout_s: Timeout = None,
    form: TableFormat = "text",
    output: TableOutput = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Say which machines and precisions hold MODEL: longest context, largest batch, fewest cards.

    \b
    devplan fit Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --gpus 2x24GiB --context 32768
    devplan fit Qwen/Qwen2.5-72B-Instruct --card a100-80gb --card rtx-4090 --context 32768
    """
    from devplan.cli.delivery import look_at_output
    from devplan.cli.options import Typed, read_model, read_workload
    from devplan.cli.settings import load_settings
    from devplan.cli.side_by_side import show
    from devplan.report import known_table_format

    known_table_format(form)
    look_at_output(output)
    typed = Typed(
        model=model,
        reserve=reserve,
        batch=batch,
        context=context,
        dtype=dtype,
        kv_dtype=kv_dtype,
        images=images,
        image_size=image_size,
    )
    settings = load_settings(Path.cwd())
    name = read_model(typed, settings, "fit")
    request = read_workload(typed, settings)
    machines = _machines(gpus or (), card or (), typed, settings)
    with progress_on_stderr() as progress:
        from devplan.workflows import fit

        progress("starting")
        result = fit(
            name,
            machines,
            cards=card or (),
            request=request,
            reserve=reserve or settings.reserve,
            packed=packed,
            trust_remote_code=trust_remote_code,
            revision=revision,
            verify=not no_verify,
            timeout_s=timeout_s,
            progress=progress,
        )
    from devplan.report import fit_json, fit_text

    show(lambda: fit_json(result), lambda terminal: fit_text(result, terminal), form, output)
    return 0 if result.fits else NOTHING_FITS


def _machines(
    gpus: Sequence[str], kinds: Sequence[str], typed: Typed, settings: Settings
) -> list[Machine]:
    """The machines as typed; that of the project where neither machines nor kinds were."""
    from devplan.cli.options import read_machine

    named = list(gpus)
    if not named and not kinds and settings.gpus:
        machine = read_machine(settings.gpus, typed, settings)
        return [replace(machine, tiers=())]
    machines = [read_machine(text, replace(typed, gpus=text), settings) for text in named]
    # [tiers] what has to be offloaded does not fit.
    return [replace(machine, tiers=()) for machine in machines]
