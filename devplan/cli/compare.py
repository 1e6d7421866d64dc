"""``devplan compare``: devplan's map beside those of accelerate and transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
    MainDevice,
    ModelArgument,
    Reserve,
    Revision,
    TableFormat,
    TableOutput,
    Timeout,
    TrustRemoteCode,
)

NOT_CLEAN = 1


def compare_command(
    model: ModelArgument = None,
    gpus: Annotated[
        str | None,
        typer.Option(
            "--gpus",
            metavar="CARDS",
            callback=or_list,
            is_eager=True,
            help="The machine, as for suggest.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", metavar="SIZES", help="Sizes of cards given by index."),
    ] = None,
    main: MainDevice = None,
    reserve: Reserve = None,
    batch: Batch = None,
    context: Context = None,
    dtype: Dtype = None,
    kv_dtype: KvDtype = None,
    images: Images = None,
    image_size: ImageSize = None,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="balance|context|fewest|latency",
            help="Of devplan's plan, as there.",
        ),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option("--pin", metavar="MODULE=DEVICE", help="For devplan's plan. Repeat."),
    ] = None,
    no_pin: Annotated[
        bool | None,
        typer.Option("--no-pin", help="Do not keep embedding, towers and head on the main device."),
    ] = None,
    timeout_s: Timeout = None,
    form: TableFormat = "text",
    output: TableOutput = None,
    revision: Revision = None,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Set devplan's map of MODEL beside those of accelerate and transformers, all run virtually.

    \b
    devplan compare Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768
    """
    from devplan.cli.delivery import look_at_output
    from devplan.cli.options import Typed, read_options
    from devplan.cli.settings import load_settings
    from devplan.cli.side_by_side import show
    from devplan.report import known_table_format

    known_table_format(form)
    look_at_output(output)
    typed = Typed(
        model=model,
        gpus=gpus,
        memory=memory,
        main=main,
        reserve=reserve,
        batch=batch,
        context=context,
        dtype=dtype,
        kv_dtype=kv_dtype,
        images=images,
        image_size=image_size,
        objective=objective,
        pin=pin or (),
        no_pin=no_pin,
    )
    asked = read_options(typed, load_settings(Path.cwd()), "compare")
    with progress_on_stderr() as progress:
        from devplan.workflows import compare

        progress("starting")
        comparison = compare(
            asked.model,
            asked.machine,
            asked.workload,
            objective=asked.objective,
            pins=asked.pins,
            default_pins=asked.default_pins,
            trust_remote_code=trust_remote_code,
            revision=revision,
            timeout_s=timeout_s,
            progress=progress,
        )
    from devplan.report import compare_json, compare_text

    show(
        lambda: compare_json(comparison),
        lambda terminal: compare_text(comparison, terminal),
        form,
        output,
    )
    return 0 if comparison.own.is_clean else NOT_CLEAN
