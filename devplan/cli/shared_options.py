"""Options that several commands take in the same words: types for the signatures of commands."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

from devplan.cli.gpus import or_list

MapModel: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="As for suggest. Default: as the map says."),
]
MapGpus: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--gpus",
        metavar="CARDS",
        callback=or_list,
        is_eager=True,
        help="As for suggest. Default: as the map says.",
    ),
]
MapMemory: TypeAlias = Annotated[
    str | None, typer.Option("--memory", metavar="SIZES", help="Sizes of cards given by index.")
]
MainDevice: TypeAlias = Annotated[
    str | None,
    typer.Option("--main", metavar="DEVICE", help="Where inputs enter, such as cuda:1."),
]
MapBatch: TypeAlias = Annotated[int | None, typer.Option("--batch", help="Sequences at a time.")]
MapContext: TypeAlias = Annotated[
    str | None,
    typer.Option("--context", metavar="TOKENS", help="Tokens held per sequence: 32768 or 32k."),
]
Images: TypeAlias = Annotated[
    int | None, typer.Option("--images", help="Images of a sequence; 0: none.")
]
ImageSize: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--image-size",
        metavar="HxW",
        help="In pixels, such as 448x672; of a pipeline, what it makes.",
    ),
]
Frames: TypeAlias = Annotated[
    int | None, typer.Option("--frames", help="Frames of the video that a pipeline makes.")
]
Tiling: TypeAlias = Annotated[
    bool | None,
    typer.Option("--tiling", help="Let a pipeline's autoencoder work in tiles (enable_tiling)."),
]
Inputs: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--inputs", metavar="FILE.py:FUNCTION", help="Your own function that makes the inputs."
    ),
]
DeviceMapStrategy: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--device-map",
        metavar="auto|balanced|balanced_low_0|sequential",
        help="What accelerate would choose, instead of a file.",
    ),
]
TrustRemoteCode: TypeAlias = Annotated[
    bool, typer.Option("--trust-remote-code", help="Let code that comes with the model run.")
]
MapPacked: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--packed",
        help="Count quantized weights as stored, also where transformers unpacks them. Default: as "
        "the map says.",
    ),
]
ModelArgument: TypeAlias = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help="Catalogue name, folder with config.json, hub id, or package.module:factory. "
        "Default: model of devplan.yaml.",
        show_default=False,
    ),
]
Reserve: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--reserve",
        metavar="SIZE",
        help="Kept free on each card. Default: 1 GiB, at most an eighth of the card.",
    ),
]
Batch: TypeAlias = Annotated[
    str | None,
    typer.Option("--batch", metavar="NUMBER", help="Sequences at a time. Default: 1."),
]
Context: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--context",
        metavar="TOKENS",
        help="Tokens held per sequence, prompt and new ones: 32768 or 32k (k is 1,024). Default: "
        "4096, or what the model supports if that is less.",
    ),
]
Dtype: TypeAlias = Annotated[
    str | None,
    typer.Option("--dtype", metavar="DTYPE", help="Compute dtype. Default: as stored."),
]
KvDtype: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--kv-dtype", metavar="DTYPE", help="Dtype of the KV cache. Default: as the model makes it."
    ),
]


def _seconds(value: float | None) -> float | None:
    from devplan.sandbox import time_limit

    return time_limit("--timeout", value)


Timeout: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        callback=_seconds,
        help="For all of it; of several maps, for each.",
    ),
]
Revision: TypeAlias = Annotated[
    str | None, typer.Option("--revision", help="Branch, tag or commit on the hub.")
]
TableFormat: TypeAlias = Annotated[
    str, typer.Option("--format", metavar="text|json", help="Of the report.")
]
TableOutput: TypeAlias = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write the report to a file; - is stdout."),
]
