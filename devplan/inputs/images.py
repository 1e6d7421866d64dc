"""Candidates for images and videos: channels, sizes, and the forms in which models take them.

Six forms are in use:

* *patches with a grid* (``image_grid_thw``): all patches of all images in one list, each flattened
  to channels x frames x height x width, and a row of the grid per image;
* *patches with shapes or positions* (``spatial_shapes``, ``image_position_ids``): as above, one
  padded list per image;
* *a strip with sizes* (``target_sizes``): the patches of all images side by side in one picture;
* *rows with coordinates* (``flattened_patches``): two coordinates in front of each patch;
* *tiles with aspect ratios* (``aspect_ratio_ids``): images cut into tiles, padded to a number;
* *pixels*: ``[images, channels, height, width]``, with an axis for the images of a sequence, for
  the tiles of an image or for frames in between.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

import torch
from torch import nn

from devplan.inputs.facts import Facts, image_size, num_channels, pair, read_setting, walk
from devplan.inputs.request import Candidate
from devplan.inputs.required import documented_shapes

PIXELS = (
    "pixel_values",
    "image_pixel_values",
    "pixel_values_images",
    "image",
    "flattened_patches",
    "image_patches",
)
_PROJECTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def image_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give `items` images to each sequence of the batch."""
    name = facts.takes(*PIXELS)
    grid = facts.takes("image_grid_thw", "grid_thw", "image_grid_hw", "grid_hw", "grid_hws")
    if grid is not None:
        yield from grid_candidates(facts, items, name or "hidden_states", grid)
    elif name is None:
        return
    elif sizes := facts.takes("target_sizes"):
        yield _strip_with_sizes(facts, items, name, sizes)
    elif shapes := facts.takes("spatial_shapes", "image_position_ids", "pixel_position_ids"):
        yield from _shaped_patches(facts, items, name, shapes)
    elif name == "flattened_patches":
        yield from _rows_with_coordinates(facts, items, name)
    elif name == "image_patches":
        yield from _plain_patches(facts, items, name)
    elif "aspect_ratio_ids" in facts.accepted:
        yield from _tiles_with_ratios(facts, items, name)
    elif _starts_with_patches(facts):
        yield from _plain_patches(facts, items, name)
    if name is not None and grid is None:
        yield from pixel_candidates(facts, items, name)


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
        forms = [(num, *shape), (1, num, *shape), *_documented_rows(facts, name, num)]
        for patches in (facts.floats(*form) for form in dict.fromkeys(forms)):
            arguments = {name: patches, grid: grids, **_merge_sizes(facts, total)}
            runs = (1, frames) if frames > 1 else (1,)
            yield Candidate(kind=kind, items=items, arguments=arguments, runs=runs)


def _documented_rows(facts: Facts, name: str, num: int) -> Iterator[tuple[int, ...]]:
    """A row of the documented shape for each cell of the grid: a cell may be of several patches."""
    for _, *row in documented_shapes(facts, name):
        if row:
            yield (num, *row)


def _merge_sizes(facts: Facts, total: int) -> dict[str, torch.Tensor]:
    """Patches that become one along a side, of each image, where the model wants to be told."""
    if "merge_sizes" not in facts.accepted:
        return {}
    size = facts.setting("merge_size", "spatial_merge_size", side="vision", default=1)
    return {"merge_sizes": torch.full((total,), size, dtype=torch.int64)}


def patch_grid(facts: Facts) -> tuple[int, int]:
    """Patches of an image of the size asked for; both even multiples of what is merged."""
    patch = pair(facts.setting("patch_size", "spatial_patch_size", side="vision", default=14))[0]
    merge = _merge(facts)
    height, width = (max(1, side // (patch * merge)) * merge for side in facts.request.image_size)
    return height, width


def _merge(facts: Facts) -> int:
    """Patches along one side that become one token; windows are counted in merged patches."""
    value = facts.setting(
        "spatial_merge_size",
        "merge_kernel_size",
        "merge_size",
        "pooling_kernel_size",
        side="vision",
    )
    side = pair(value)
    return 2 * side[0] if side else 2


def _patch_shapes(facts: Facts) -> Iterator[tuple[int, ...]]:
    """What one patch may look like: as the weights of the first projection say, flat or not."""
    # A convolution first: mergers, which are linear, may be registered before the patches' own.
    first = facts.first_layer("vision", nn.Conv2d, nn.Conv3d)
    first = first or facts.first_layer("vision", *_PROJECTIONS)
    if first is not None:
        one = tuple(first.weight.shape[1:])  # [in] of a Linear, [channels, (time,) h, w] of a Conv
        yield (math.prod(one),)
        if len(one) > 1:
            yield one
    channels = num_channels(facts)
    patch = pair(facts.setting("patch_size", side="vision", default=14))
    time = facts.setting("temporal_patch_size", side="vision")
    if isinstance(time, int):
        yield (channels * time * patch[0] * patch[1],)
    yield (channels * patch[0] * patch[1],)
    yield (channels, *patch)


def _starts_with_patches(facts: Facts) -> bool:
    """Whether the first projection takes a flattened patch (Fuyu), not a picture."""
    first = facts.first_layer("vision", *_PROJECTIONS)
    patch = pair(facts.setting("patch_size", side="vision"))
    if patch is None or not isinstance(first, nn.Linear):
        return False
    return first.in_features == num_channels(facts) * patch[0] * patch[1]


def _shaped_patches(facts: Facts, items: int, name: str, shapes: str) -> Iterator[Candidate]:
    """A list of patches per image, with the shape of its grid or the position of each patch."""
    total = items * facts.request.batch
    height, width = patch_grid(facts)
    grid = torch.tensor([[height, width]] * total, dtype=torch.int64)
    for patches, positions in positioned_patches(facts, total):
        where = grid if shapes == "spatial_shapes" else positions
        arguments = {name: patches, shapes: where}
        if mask := facts.takes("pixel_attention_mask"):
            arguments[mask] = torch.ones(patches.shape[:2], dtype=torch.int64)
        yield Candidate(kind="image", items=items, arguments=arguments)


def _strip_with_sizes(facts: Facts, items: int, name: str, sizes: str) -> Candidate:
    """All patches of all images side by side, one patch high, and the grid of each image."""
    total = items * facts.request.batch
    height, width = (side // 2 * 2 for side in patch_grid(facts))
    patch = pair(facts.setting("patch_size", side="vision", default=14))
    strip = facts.floats(1, num_channels(facts), patch[0], total * height * width * patch[1])
    grid = torch.tensor([[height, width]] * total, dtype=torch.int32)
    return Candidate(kind="image", items=items, arguments={name: strip, sizes: grid})


def positioned_patches(facts: Facts, total: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Flattened patches of `total` pictures, with x and y of each, ``[total, patches, 2]``."""
    height, width = patch_grid(facts)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([columns.flatten(), rows.flatten()], -1)
    for shape in _patch_shapes(facts):
        if len(shape) == 1:
            patches = facts.floats(total, height * width, *shape)
            yield patches, positions.expand(total, -1, 2).clone()


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


_OTHER_SIZES = ((512, 512), (1536, 1536))
"""Tried last: powers of two for pixel shuffles; what Depth Pro cuts into patches of 384."""
_MOST_SAID = 2
"""Sizes that are taken from what the model's code said."""


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


# What goes with pixels: masks of pixels and patches, and the same image for a second tower.


def companions(facts: Facts, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Masks that go with pixels of `shape`, as far as ``forward`` takes them."""
    without_channels = (*shape[:-3], *shape[-2:])
    made: dict[str, torch.Tensor] = {}
    if "pixel_attention_mask" in facts.accepted:
        made["pixel_attention_mask"] = torch.ones(without_channels, dtype=torch.int64)
    if "pixel_mask" in facts.accepted:
        made["pixel_mask"] = torch.ones(without_channels, dtype=torch.int64)
    for name, part in _OTHER_PICTURES.items():
        if name in facts.accepted:
            made[name] = facts.floats(*shape[:-2], *_size_in(facts, part))
    return made


def patch_masks(facts: Facts, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A mask of patches for pixels of `shape`, where ``forward`` may want one.

    In layers that attend to images the same name is a mask of the text.
    """
    name = "image_attention_mask"
    if name not in facts.accepted or facts.setting("cross_layer_interval") is not None:
        return {}
    patch = pair(facts.setting("patch_size", side="vision", default=14))
    grid = (shape[-2] // patch[0], shape[-1] // patch[1])
    return {name: torch.ones(*shape[:-3], *grid, dtype=torch.int64)}


def picture_masks(facts: Facts, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """A mask that says which pictures of a sequence are there, under the name of one of pixels."""
    name = "pixel_attention_mask"
    if name not in facts.accepted or len(shape) != 5:
        return {}
    return {name: torch.ones(shape[:2], dtype=torch.bool)}


_OTHER_PICTURES = {"high_res_pixel_values": "high_res", "codebook_pixel_values": "codebook"}
"""The same image once more for a second tower -> what that tower's configuration is called."""


def _size_in(facts: Facts, part: str) -> tuple[int, int]:
    """Image size of the configuration whose path contains `part`; 112 is FLAVA's."""
    sizes = (
        pair(read_setting(config, "image_size"))
        for path, config in walk(facts.config)
        if part in path
    )
    return next(filter(None, sizes), (112, 112))


# Videos: an image with a time axis.

FRAMES = ("pixel_values_videos", "video_pixel_values")


def video_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give `items` videos to each sequence of the batch."""
    name = facts.takes(*FRAMES)
    if name is None:
        return
    frames = facts.setting("num_frames", "frames_per_clip", side="vision")
    frames = frames if isinstance(frames, int) else facts.request.frames
    if grid := facts.takes("video_grid_thw"):
        time = facts.setting("temporal_patch_size", side="vision", default=1)
        steps = max(1, frames // time)
        yield from grid_candidates(facts, items, name, grid, kind="video", frames=steps)
        return
    if "video_position_ids" in facts.accepted:
        yield from _frames_of_patches(facts, items, name, frames)
        return
    total = items * facts.request.batch
    for size in _frame_sizes(facts):
        picture = (num_channels(facts), *size)
        for shape in ((total, frames, *picture), (total * frames, *picture), (total, *picture)):
            arguments = {name: facts.floats(*shape)}
            yield Candidate(kind="video", items=items, arguments=arguments)


def _frame_sizes(facts: Facts) -> Iterator[tuple[int, int]]:
    """Of a frame: as stated, then as the model's code says where it refuses that."""
    yield image_size(facts)
    yield from said_sizes(facts)


def _frames_of_patches(facts: Facts, items: int, name: str, frames: int) -> Iterator[Candidate]:
    """A list of patches and of their positions for every frame."""
    total = items * facts.request.batch
    for patches, positions in positioned_patches(facts, total * frames):
        arguments = {name: patches, "video_position_ids": positions}
        if "num_frames_per_video" in facts.accepted:
            arguments["num_frames_per_video"] = [frames] * total
        yield Candidate(kind="video", items=items, arguments=arguments)
