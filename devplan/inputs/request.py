"""The words of this package: what is asked for, what is offered to the model, and what was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devplan.core import DevplanError, InputError, Workload

LEAST_TEXT = 16
"""Tokens of text beside placeholders, where a sequence is that long: a choice, a short question."""


class NoExampleInputs(DevplanError):
    """devplan cannot make inputs for this model."""


@dataclass(frozen=True, kw_only=True)
class InputRequest:
    """What the example should contain.  Sizes that the model fixes itself win over these."""

    batch: int = 1
    """Sequences (or pictures, or waveforms) at a time."""
    tokens: int = 64
    """Length of a sequence, placeholders of images and sounds among them; longer where these leave
    no room for `LEAST_TEXT` of text."""
    decoder_tokens: int = 4
    """Tokens on the decoder's side of an encoder-decoder model."""
    images: int | None = None
    """Images of a sequence; None: one where the model takes images.  0: none."""
    image_size: tuple[int, int] = (224, 448)
    """Height and width in pixels, where the model takes images of any size; not square, so that
    code which swaps the two is noticed."""
    videos: int | None = None
    """Videos of a sequence; None: one where the model takes videos but not images."""
    frames: int = 4
    """Frames of a video, where the model does not fix them."""
    sounds: int | None = None
    """Sounds of a sequence; None: one where the model takes sounds."""
    audio_seconds: float = 2.0
    made_size: tuple[int, int] | None = (224, 448)
    """Height and width of what a pipeline makes; None: its own."""
    made_frames: int | None = 5
    """Frames of a video that a pipeline makes; None: its own number."""
    tiling: bool = False
    """Whether a pipeline's autoencoder works in tiles."""
    padded: bool = False
    """Whether the sequences differ in length, with padding on the left: then attention masks in
    four dimensions are built.  Needs a batch of 2 at least."""


@dataclass(frozen=True, kw_only=True)
class ExampleInputs:
    """Arguments that the model's own code accepts, and what is to be known about them."""

    kwargs: Mapping[str, Any]
    """Keyword arguments of ``forward`` and ``generate``: integer tensors real, float tensors on
    meta in the model's dtype."""
    modalities: tuple[str, ...]
    """What they contain: of ``text``, ``image``, ``video``, ``audio``, ``decoder text`` and
    ``values``."""
    source: str
    """``processor of the folder``, ``configuration``, ``dummy inputs of the class`` or ``user``."""
    notes: tuple[str, ...] = field(default=())
    """What could not be made, and why."""


# A maker yields candidates in the order of likelihood; the first that the model's own code
# accepts in a virtual run is taken (``devplan.inputs.probe``). Makers know names of arguments,
# and shapes that configuration and weights state, never model types.


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Arguments for the items of one kind, for the whole batch."""

    kind: str
    """``image``, ``video``, ``audio`` or ``values``."""
    items: int
    """Of each sequence."""
    arguments: Mapping[str, Any]
    runs: tuple[int, ...] = (1,)
    """Into how many runs the placeholders of one item may be divided: a video's stand together, or
    frame by frame with the time of each in between."""


DEFAULT_IMAGE_SIZE = InputRequest().image_size


def request_for(workload: Workload, tokens: int) -> InputRequest:
    """Sequences of a workload's batch and images.

    Parameters
    ----------
    workload
        Batch and images; sequences of a batch differ in length.
    tokens
        Length of a sequence, placeholders of images among them.
    """
    return InputRequest(
        batch=workload.batch,
        tokens=tokens,
        images=workload.images,
        videos=0 if workload.images == 0 else None,  # [no images] means text alone
        image_size=workload.image_size or DEFAULT_IMAGE_SIZE,
        made_size=workload.image_size,
        made_frames=workload.frames,
        tiling=workload.tiling,
        padded=workload.batch > 1,
    )


def refuse_images_not_taken(example: ExampleInputs, request: InputRequest) -> None:
    """Images that were asked for are never left out silently.

    Raises
    ------
    InputError
        When the example holds none of them.
    """
    if request.images and "image" not in example.modalities:
        raise InputError(
            f"--images {request.images}, but no argument of the model takes images; leave it out"
        )
