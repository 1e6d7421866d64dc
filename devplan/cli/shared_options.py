"""Options that several commands take in the same words: types for the signatures of commands."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

MapModel: TypeAlias = Annotated[
    str | None,
    typer.Option("--model", metavar="MODEL", help="As for suggest. Default: as the map says."),
]
MapGpus: TypeAlias = Annotated[
    str | None,
    typer.Option("--gpus", metavar="CARDS", help="As for suggest. Default: as the map says."),
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
    int | None, typer.Option("--context", help="Tokens held per sequence.")
]
Images: TypeAlias = Annotated[
    int | None, typer.Option("--images", help="Images of a sequence; 0: none.")
]
ImageSize: TypeAlias = Annotated[
    str | None, typer.Option("--image-size", metavar="HxW", help="In pixels, such as 448x672.")
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
