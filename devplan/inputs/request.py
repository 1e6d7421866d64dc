"""What is asked for, and what was made: the two dataclasses of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

LEAST_TEXT = 16
"""Tokens of text beside placeholders, where a sequence is that long: a choice, a short question."""


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
