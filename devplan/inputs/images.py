"""Candidates for images.

Five forms are in use:

* *patches with a grid* (``image_grid_thw``): all patches of all images in one list, each flattened
  to channels x frames x height x width, and a row of the grid per image;
* *patches with shapes or positions* (``spatial_shapes``, ``image_position_ids``): as above, one
  padded list per image;
* *rows with coordinates* (``flattened_patches``): two coordinates in front of each patch;
* *tiles with aspect ratios* (``aspect_ratio_ids``): images cut into tiles, padded to a number;
* *pixels*: ``[images, channels, height, width]``, with an axis for the images of a sequence, for
  the tiles of an image or for frames in between.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from devplan.inputs.facts import Facts, pair
from devplan.inputs.media import Candidate

PIXELS = (
    "pixel_values",
    "image_pixel_values",
    "pixel_values_images",
    "image",
    "flattened_patches",
    "image_patches",
)
_PROJECTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CHANNELS = 3
"""Red, green, blue, where neither configuration nor weights say another number."""


def image_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give `items` images to each sequence of the batch."""
    name = facts.takes(*PIXELS)
    grid = facts.takes("image_grid_thw", "grid_thw", "image_grid_hw", "grid_hw", "grid_hws")
    if grid is not None:
        yield from grid_candidates(facts, items, name or "hidden_states", grid)
    elif name is None:
        return
    elif shapes := facts.takes("spatial_shapes", "image_position_ids", "pixel_position_ids"):
        yield from _shaped_patches(facts, items, name, shapes)
    elif name == "flattened_patches":
        yield from _rows_with_coordinates(facts, items, name)
    elif name == "image_patches":
        yield from _plain_patches(facts, items, name)
    elif "aspect_ratio_ids" in facts.accepted:
        yield from _tiles_with_ratios(facts, items, name)
    if name is not None:
        yield from _pixels(facts, items, name)


# --------------------------------------------------------------------------------- patches


def grid_candidates(
    facts: Facts, items: int, name: str, grid: str, *, kind: str = "image", frames: int = 1
) -> Iterator[Candidate]:
    """One list of flattened patches, and a grid of (time,) height and width in patches."""
    total = items * facts.request.batch
    height, width = patch_grid(facts)
    cell = [height, width] if grid.endswith(("_hw", "_hws")) else [frames, height, width]
    grids = torch.tensor([cell] * total, dtype=torch.int64)
    num = total * frames * height * width
    for shape in _patch_shapes(facts):
        yield Candidate(
            kind=kind,
            items=items,
            arguments={name: facts.floats(num, *shape), grid: grids},
        )
        yield Candidate(
            kind=kind,
            items=items,
            arguments={name: facts.floats(1, num, *shape), grid: grids},
        )


def patch_grid(facts: Facts) -> tuple[int, int]:
    """Patches of an image of the size asked for; both even multiples of what is merged."""
    patch = pair(facts.setting("patch_size", "spatial_patch_size", side="vision", default=14))[0]
    merge = _merge(facts)
    height, width = (max(1, side // (patch * merge)) * merge for side in facts.request.image_size)
    return height, width


def _merge(facts: Facts) -> int:
    """Patches along one side that become one token; windows are counted in merged patches."""
    value = facts.setting("spatial_merge_size", "merge_kernel_size", "merge_size", side="vision")
    side = pair(value)
    return 2 * side[0] if side else 2


def _patch_shapes(facts: Facts) -> Iterator[tuple[int, ...]]:
    """What one patch may look like: as the weights of the first projection say, flat or not."""
    first = facts.first_layer("vision", *_PROJECTIONS)
    if first is not None:
        one = tuple(first.weight.shape[1:])  # [in] of a Linear, [channels, (time,) h, w] of a Conv
        yield (math.prod(one),)
        if len(one) > 1:
            yield one
    channels = num_channels(facts)
    patch = pair(facts.setting("patch_size", side="vision", default=14))
    yield (channels * patch[0] * patch[1],)
    yield (channels, *patch)
    time = facts.setting("temporal_patch_size", side="vision")
    if isinstance(time, int):
        yield (channels * time * patch[0] * patch[1],)


def num_channels(facts: Facts) -> int:
    first = facts.first_layer("vision", nn.Conv2d, nn.Conv3d)
    stated = facts.setting("num_channels", "in_channels", "in_chans", side="vision")
    if isinstance(stated, int):
        return stated
    return first.in_channels if first is not None else _CHANNELS


def _shaped_patches(facts: Facts, items: int, name: str, shapes: str) -> Iterator[Candidate]:
    """A list of patches per image, with the shape of its grid or the position of each patch."""
    total = items * facts.request.batch
    height, width = patch_grid(facts)
    num = height * width
    if shapes == "spatial_shapes":
        where = torch.tensor([[height, width]] * total, dtype=torch.int64)
    else:  # x before y, as Gemma 4 has it
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        where = torch.stack([columns.flatten(), rows.flatten()], -1).expand(total, num, 2).clone()
    for shape in _patch_shapes(facts):
        if len(shape) == 1:
            arguments = {name: facts.floats(total, num, *shape), shapes: where}
            if mask := facts.takes("pixel_attention_mask"):
                arguments[mask] = torch.ones(total, num, dtype=torch.int64)
            yield Candidate(kind="image", items=items, arguments=arguments)


def _rows_with_coordinates(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    total = items * facts.request.batch
    height, width = patch_grid(facts)
    patch = pair(facts.setting("patch_size", side="vision", default=16))
    length = 2 + num_channels(facts) * patch[0] * patch[1]
    patches = facts.floats(total, height * width, length)
    yield Candidate(kind="image", items=items, arguments={name: patches})


def _plain_patches(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    height, width = patch_grid(facts)
    for shape in _patch_shapes(facts):
        patches = facts.floats(facts.request.batch, items * height * width, math.prod(shape))
        yield Candidate(kind="image", items=items, arguments={name: patches})


# ------------------------------------------------------------------------------------ tiles


def _tiles_with_ratios(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    """``[batch, images, tiles, channels, height, width]``; one tile is the whole image."""
    batch = facts.request.batch
    tiles = facts.setting("max_num_tiles", side="vision", default=4)
    size = image_size(facts)
    arguments = {
        name: facts.floats(batch, items, tiles, num_channels(facts), *size),
        "aspect_ratio_ids": torch.ones(batch, items, dtype=torch.int64),
    }
    if "aspect_ratio_mask" in facts.accepted:
        mask = torch.zeros(batch, items, tiles, dtype=torch.int64)
        mask[..., 0] = 1
        arguments["aspect_ratio_mask"] = mask
    yield Candidate(kind="image", items=items, arguments=arguments)


# ----------------------------------------------------------------------------------- pixels


def image_size(facts: Facts) -> tuple[int, int]:
    """The size that the configuration fixes, or the size asked for."""
    stated = pair(
        facts.setting("image_size", "img_size", "input_size", "crop_size", side="vision")
    )
    return stated or facts.request.image_size


def _pixels(facts: Facts, items: int, name: str) -> Iterator[Candidate]:
    batch, channels = facts.request.batch, num_channels(facts)
    total = items * batch
    frames = facts.setting("num_frames", "frames_per_clip", side="vision")
    sizes = list(dict.fromkeys([image_size(facts), facts.request.image_size, (512, 512)]))
    for size in sizes:
        picture = (channels, *size)
        flat, per_sequence = (total, *picture), (batch, items, *picture)
        tiled, two = (total, 2, *picture), (batch, 2, *picture)
        orders = [flat, per_sequence, tiled, two]
        if isinstance(frames, int):
            orders.insert(0, (total, frames, *picture))
        elif "pixel_attention_mask" in facts.accepted or "image_num_crops" in facts.accepted:
            orders = [per_sequence, flat, tiled]
        elif facts.setting("image_grid_pinpoints") is not None:
            orders = [tiled, flat, per_sequence]
        for shape in dict.fromkeys(orders):
            arguments = {name: facts.floats(*shape), **_companions(facts, shape, total, size)}
            yield Candidate(kind="image", items=items, arguments=arguments)


def _companions(
    facts: Facts, shape: tuple[int, ...], total: int, size: tuple[int, int]
) -> dict[str, torch.Tensor]:
    """Masks and sizes that go with pixels of `shape`, as far as ``forward`` takes them."""
    without_channels = (*shape[:-3], *shape[-2:])
    made: dict[str, torch.Tensor] = {}
    if "pixel_attention_mask" in facts.accepted:
        made["pixel_attention_mask"] = torch.ones(without_channels, dtype=torch.int64)
    if "pixel_mask" in facts.accepted:
        made["pixel_mask"] = torch.ones(without_channels, dtype=torch.int64)
    if "image_sizes" in facts.accepted:
        made["image_sizes"] = torch.tensor([list(size)] * total, dtype=torch.int64)
    return made
