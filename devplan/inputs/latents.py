"""Candidates for diffusion models: noisy latents, a time step, and what they are conditioned on.

Latents are a picture ``[batch, channels, height, width]``, a video with frames in between, or a
sequence of packed patches ``[batch, patches, channels]``.  The widths of the conditions stand in
the configuration under names that follow the arguments'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from devplan.inputs.facts import Facts
from devplan.inputs.media import Candidate

_VAE_SCALE = 8
"""Pixels per latent along a side: Stable Diffusion, FLUX, Wan 2.1 and Qwen-Image."""
_PACKED = 2
"""Latents per packed patch along a side, as FLUX and Qwen-Image pack them."""
_MIDDLE_STEP = 500
"""Of the usual 1,000 training steps."""

_WIDTHS = {
    "encoder_hidden_states": (
        "joint_attention_dim",
        "text_dim",
        "text_embed_dim",
        "cross_attention_dim",
        "caption_channels",
        "caption_dim",
        "cap_feat_dim",
    ),
    "encoder_hidden_states_2": ("text_embed_2_dim",),
    "image_embeds": ("image_embed_dim",),
    "pooled_projections": ("pooled_projection_dim",),
}
"""Argument -> settings that give its width."""


def latent_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give latents, for classes with ``hidden_states`` or ``sample`` and a time step."""
    name = facts.takes("sample", "hidden_states")
    if name is None or ("timestep" not in facts.accepted and name != "sample"):
        return
    for shape in _shapes(facts):
        arguments = {name: facts.floats(*shape), **_conditions(facts, shape)}
        yield Candidate(kind="latents", items=1, arguments=arguments)


def _grid(facts: Facts) -> tuple[int, int]:
    height, width = (side // _VAE_SCALE for side in facts.request.image_size)
    return height, width


def _shapes(facts: Facts) -> list[tuple[int, ...]]:
    batch, frames = facts.request.batch, facts.request.frames
    height, width = _grid(facts)
    if "timestep" not in facts.accepted:  # an autoencoder: it takes pixels
        size = facts.request.image_size
        channels = facts.setting("in_channels", default=3)
        return [(batch, channels, *size), (batch, channels, frames + 1, *size)]
    channels = facts.setting("in_channels", default=4)
    picture = (batch, channels, height, width)
    video = (batch, channels, frames + 1, height, width)  # the first frame stands alone
    packed = (batch, (height // _PACKED) * (width // _PACKED), channels)
    if facts.takes("img_ids", "img_shapes"):
        return [packed, picture, video]
    if isinstance(facts.setting("patch_size"), (list, tuple)) or facts.setting("patch_size_t"):
        return [video, picture, packed]
    return [picture, video, packed]


def _conditions(facts: Facts, shape: tuple[int, ...]) -> dict[str, Any]:
    made = {}
    for name, maker in _CONDITIONS.items():
        if name in facts.accepted and (value := maker(facts, shape)) is not None:
            made[name] = value
    return made


def _text(name: str) -> Callable[[Facts, tuple[int, ...]], Any]:
    def make(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor | None:
        width = facts.setting(*_WIDTHS[name])
        if not isinstance(width, int):
            return None
        return facts.floats(facts.request.batch, facts.request.tokens, width)

    return make


def _pooled(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor | None:
    width = facts.setting(*_WIDTHS["pooled_projections"])
    return facts.floats(facts.request.batch, width) if isinstance(width, int) else None


def _mask(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.ones(facts.request.batch, facts.request.tokens, dtype=torch.int64)


def _time(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.full((facts.request.batch,), _MIDDLE_STEP, dtype=torch.int64)


def _guidance(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor | None:
    return facts.floats(facts.request.batch) if facts.setting("guidance_embeds") else None


def _positions(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor:
    """Time, row and column of each packed patch."""
    height, width = (side // _PACKED for side in _grid(facts))
    cells = [(0, row, column) for row in range(height) for column in range(width)]
    return torch.tensor(cells, dtype=torch.int64)


def _text_positions(facts: Facts, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.zeros(facts.request.tokens, 3, dtype=torch.int64)


def _picture_shapes(facts: Facts, shape: tuple[int, ...]) -> list[list[tuple[int, int, int]]]:
    height, width = (side // _PACKED for side in _grid(facts))
    return [[(1, height, width)]] * facts.request.batch


_CONDITIONS: dict[str, Callable[[Facts, tuple[int, ...]], Any]] = {
    "timestep": _time,
    "encoder_hidden_states": _text("encoder_hidden_states"),
    "encoder_hidden_states_2": _text("encoder_hidden_states_2"),
    "image_embeds": _text("image_embeds"),
    "pooled_projections": _pooled,
    "encoder_hidden_states_mask": _mask,
    "encoder_attention_mask": _mask,
    "encoder_attention_mask_2": _mask,
    "guidance": _guidance,
    "img_ids": _positions,
    "txt_ids": _text_positions,
    "img_shapes": _picture_shapes,
    "txt_seq_lens": lambda facts, shape: [facts.request.tokens] * facts.request.batch,
}
