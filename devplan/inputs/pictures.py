"""Pictures: how many channels and which size they have, and the forms of plain pixels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from devplan.inputs.companions import companions, patch_masks, picture_masks
from devplan.inputs.facts import Facts, pair
from devplan.inputs.media import Candidate

_OTHER_SIZES = ((512, 512), (1536, 1536))
"""Tried last: powers of two for pixel shuffles; what Depth Pro cuts into patches of 384."""
_MOST_SAID = 2
"""Sizes that are taken from what the model's code said."""
_MOST_CHANNELS = 4
"""Of a picture: a first convolution with more works on features, and its channels say nothing."""
_CHANNELS = 3
"""Red, green, blue, where neither configuration nor weights say another number."""


def num_channels(facts: Facts) -> int:
    """As the first convolution of the tower takes them, else as stated."""
    first = facts.first_layer("vision", nn.Conv2d, nn.Conv3d)
    if first is not None and first.in_channels <= _MOST_CHANNELS:
        return first.in_channels
    stated = facts.setting("num_channels", "in_channels", "in_chans", side="vision")
    return stated if isinstance(stated, int) else _CHANNELS


def image_size(facts: Facts) -> tuple[int, int]:
    """The size that the configuration fixes, or the size asked for."""
    stated = pair(facts.setting("image_size", "img_size", "input_size", "crop_size", side="vision"))
    return stated or facts.request.image_size


_SIDE_SAID = re.compile(r"\b(?:model|expects?|expected|must be|should be|had)\b\D*(\d{2,4})\b")
"""As in "Input height (224) doesn't match model (336)", or "had torch.Size([448, 448])"."""


def said_sizes(facts: Facts) -> list[tuple[int, int]]:
    """Square sizes that the model's code named when it refused others.

    They are read once, so that another batch is offered the same forms in the same order.
    """
    if facts.said_sides is None:
        said = [
            int(number)
            for refusal in facts.refusals
            for number in _SIDE_SAID.findall(refusal.rpartition(" at ")[0])
        ]
        facts.said_sides = tuple(side for side, _ in Counter(said).most_common(_MOST_SAID))
    return [(side, side) for side in facts.said_sides]


def pixel_candidates(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    """Plain pixels, with an axis for images, tiles or frames, in one size after the other."""
    batch, channels = facts.request.batch, num_channels(facts)
    total = items * batch
    frames = facts.setting("num_frames", "frames_per_clip", side="vision")
    first: tuple[int, int] | None = None
    for size in _sizes(facts):
        first = first or size
        picture = (channels, *size)
        flat, per_sequence = (total, *picture), (batch, items, *picture)
        tiled, two = (total, 2, *picture), (batch, 2, *picture)
        orders = [flat, per_sequence, tiled, two]
        if isinstance(frames, int):
            orders.insert(0, (total, frames, *picture))
        elif "pixel_attention_mask" in facts.accepted or "image_num_crops" in facts.accepted:
            orders = [per_sequence, flat, tiled]
        elif facts.setting("image_grid_pinpoints") is not None:
            # Two tiles beside each other and the whole picture in small.
            orders = [(total, 3, *picture), flat, per_sequence]
        # Other sizes are for models that refused this one, not for the rarer forms.
        likely = orders if size == first else orders[:2]
        for shape in dict.fromkeys(likely):
            arguments = {name: facts.floats(*shape), **companions(facts, shape)}
            sized = [arguments]
            if "image_sizes" in facts.accepted:
                whole = [size[0], 2 * size[1]] if shape == (total, 3, *picture) else list(size)
                sizes_of = torch.tensor([whole] * total, dtype=torch.int64)
                sized.insert(0, {**arguments, "image_sizes": sizes_of})
            masks = [patch_masks(facts, shape), picture_masks(facts, shape)]
            for form in sized:
                # [mask last] where it may be left out, the model's own code makes it
                for extra in ({}, *filter(None, masks)):
                    yield Candidate(kind="image", items=items, arguments={**form, **extra})


def _sizes(facts: Facts) -> Iterator[tuple[int, int]]:
    """As stated and as asked for, then as the model's code says where it refuses these."""
    likely = [image_size(facts), facts.request.image_size]
    if "image_sizes" in facts.accepted and not _has_fixed_positions(facts, likely[0]):
        likely.reverse()  # the size that is stated is the largest
    yield from dict.fromkeys(likely)
    others = dict.fromkeys((*said_sizes(facts), *_OTHER_SIZES))
    yield from (size for size in others if size not in likely)


def _has_fixed_positions(facts: Facts, size: tuple[int, int]) -> bool:
    """Whether a table of positions has as many rows as the picture has patches (one more: CLS)."""
    patch = pair(facts.setting("patch_size", side="vision", default=16))
    cells = (size[0] // patch[0]) * (size[1] // patch[1])
    return any(
        cells in (num, num - 1)
        for parameter in facts.tower("vision").parameters()
        for num in parameter.shape[:-1]
    )
