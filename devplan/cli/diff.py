"""``devplan diff``: what changes from one map to another."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from devplan.cli.progress import progress_on_stderr
from devplan.cli.shared_options import (
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
    Reserve,
    TableFormat,
    TableOutput,
    Timeout,
    TrustRemoteCode,
)

if TYPE_CHECKING:
    from devplan.cli.check_options import CheckTyped
    from devplan.workflows import MapDiff, MapLike

DIFFERENT = 1


def diff_command(
    before: Annotated[
        str,
        typer.Argument(
            metavar="A",
            help="A map file as for check, or auto, balanced, balanced_low_0, sequential.",
            show_default=False,
        ),
    ],
    after: Annotated[
        str, typer.Argument(metavar="B", help="Another one of these.", show_default=False)
    ],
    model: MapModel = None,
    gpus: MapGpus = None,
    memory: MapMemory = None,
    main: MainDevice = None,
    reserve: Reserve = None,
    batch: MapBatch = None,
    context: MapContext = None,
    images: Images = None,
    image_size: ImageSize = None,
    packed: MapPacked = False,
    inputs: Inputs = None,
    timeout_s: Timeout = None,
    form: TableFormat = "text",
    output: TableOutput = None,
    trust_remote_code: TrustRemoteCode = False,
) -> int:
    """Say what changes from map A to map B: entries, load of each card, copies, most tokens.

    Exit status, as of diff: 0 every tensor lies on the same device, 1 some do not, 2 bad input.

    \b
    devplan diff maps/qwen2.5-vl-7b__24+12gib.yaml auto
    devplan diff old.json new.json --model Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB
    """
    from devplan.cli.check_options import CheckTyped
    from devplan.cli.delivery import look_at_output
    from devplan.cli.side_by_side import show
    from devplan.report import known_table_format

    known_table_format(form)
    look_at_output(output)
    typed = CheckTyped(
        maps=(before, after),
        model=model,
        gpus=gpus,
        memory=memory,
        main=main,
        reserve=reserve,
        batch=batch,
        context=context,
        images=images,
        image_size=image_size,
        packed=packed,
        inputs=inputs,
        timeout_s=timeout_s,
        trust_remote_code=trust_remote_code,
    )
    found = _diff(typed)
    from devplan.report import diff_json, diff_text

    show(lambda: diff_json(found), lambda terminal: diff_text(found, terminal), form, output)
    return 0 if found.is_same else DIFFERENT


def _diff(typed: CheckTyped) -> MapDiff:
    from devplan.checker import RunOptions
    from devplan.cli.check_options import (
        machine_of,
        main_device_of,
        read_check_options,
        workload_of,
    )
    from devplan.cli.settings import load_settings
    from devplan.core import DeviceMap
    from devplan.workflows import diff

    settings = load_settings(Path.cwd())
    asked = read_check_options(typed, settings)
    maps: list[MapLike] = [_read(name) for name in typed.maps]
    given = [each for each in maps if isinstance(each, DeviceMap)]
    says_cards = any(each.machine for each in given)
    says_model = any(each.model for each in given)
    sized = next((each for each in given if each.workload), None)
    with progress_on_stderr() as progress:
        return diff(
            *maps,
            model=typed.model or (None if says_model else settings.model),
            machine=machine_of(typed, None, settings) if typed.gpus or not says_cards else None,
            main_device=main_device_of(typed),
            workload=workload_of(typed, sized, settings),
            packed=asked.packed,
            options=RunOptions(
                images=asked.images,
                image_size=asked.image_size,
                inputs=asked.inputs,
                timeout_s=asked.timeout_s,
            ),
            trust_remote_code=asked.trust_remote_code,
            progress=progress,
        )


def _read(name: str) -> MapLike:
    """A map file, or the name of a strategy."""
    from devplan.checker import STRATEGIES
    from devplan.mapfile import read_device_map

    return name if name in STRATEGIES else read_device_map(name)
