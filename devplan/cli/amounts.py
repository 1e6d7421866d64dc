"""Numbers that options hold: how much of everything there is, within bounds."""

from __future__ import annotations

import re

from devplan.core import LARGEST_BATCH as LARGEST_BATCH
from devplan.core import LARGEST_CONTEXT, LARGEST_FRAMES, LARGEST_IMAGES, InputError, parse_tokens

MOST_PIXELS = 2**26
"""Of an image: eight times a large screen."""

_SIZE = re.compile(r"([1-9][0-9]{0,4})\s*[x×]\s*([1-9][0-9]{0,4})")


def read_context(value: str | int) -> int:
    """``--context``: tokens as a number, ``32768``, ``32,768`` or ``32k``.

    Raises
    ------
    InputError
        When they are no whole number, below 1, or beyond any model.
    """
    text = str(value).strip()
    tokens = parse_tokens(text)
    if tokens is None or not 1 <= tokens <= LARGEST_CONTEXT:
        raise InputError(
            f"--context {text or repr(text)}: give a whole number of tokens per sequence, "
            f"1 to {LARGEST_CONTEXT:,}, such as 32768 or 32k (k is 1,024)"
        )
    return tokens


def number_of_frames(frames: int | None) -> int | None:
    """``--frames``: the frames of a video.

    Raises
    ------
    InputError
        For a number below 1 or beyond any video.
    """
    if frames is not None and not 1 <= frames <= LARGEST_FRAMES:
        raise InputError(f"--frames {frames}: give a number of frames, 1 to {LARGEST_FRAMES:,}")
    return frames


def number_of_images(images: int | None) -> int | None:
    """``--images``: the images of a sequence, 0 for none.

    Raises
    ------
    InputError
        For a number below 0 or beyond what any model takes.
    """
    if images is not None and not 0 <= images <= LARGEST_IMAGES:
        raise InputError(f"--images {images}: give a number of images, 0 to {LARGEST_IMAGES:,}")
    return images


def read_image_size(text: str) -> tuple[int, int]:
    """``1080x1920`` as height and width in pixels.

    Raises
    ------
    InputError
        For anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"--image-size {text!r}: write height and width, such as 448x672")
    height, width = int(match[1]), int(match[2])
    if height * width > MOST_PIXELS:
        raise InputError(
            f"--image-size {text.strip()}: give at most {MOST_PIXELS:,} pixels, such as 8192x8192"
        )
    return height, width
