"""What goes with pixels: masks of pixels and patches, and the same image for a second tower."""

from __future__ import annotations

import torch

from devplan.inputs.facts import Facts, pair, read, walk


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
        pair(read(config, "image_size")) for path, config in walk(facts.config) if part in path
    )
    return next(filter(None, sizes), (112, 112))
