"""Candidates for what is neither text nor image nor sound: series, features, noisy latents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from devplan.inputs.facts import Facts
from devplan.inputs.request import Candidate


def value_candidates(facts: Facts, items: int) -> Iterator[Candidate]:
    """Ways to give the numbers that the model works on."""
    if "past_values" in facts.accepted:
        yield from _series(facts)
    if "visual_feats" in facts.accepted or "visual_embeds" in facts.accepted:
        yield _regions(facts)
    if "returns_to_go" in facts.accepted:
        yield _trajectory(facts)


_REGIONS = 36
"""Regions of a picture that the detector of bottom-up attention gives (Anderson et al., 2018)."""
_STEPS = 20
"""Steps of a trajectory: the context of Decision Transformer on the Gym tasks."""


def _regions(facts: Facts) -> Candidate:
    """What a detector saw in a picture: a vector and a box for each region."""
    batch = facts.request.batch
    width = facts.setting("visual_feat_dim", "visual_embedding_dim", default=2048)
    made = {
        "visual_feats": facts.floats(batch, _REGIONS, width),
        "visual_pos": facts.floats(batch, _REGIONS, 4),
        "visual_embeds": facts.floats(batch, _REGIONS, width),
        "visual_attention_mask": torch.ones(batch, _REGIONS, dtype=torch.int64),
        "visual_token_type_ids": torch.ones(batch, _REGIONS, dtype=torch.int64),
    }
    arguments = {name: value for name, value in made.items() if name in facts.accepted}
    return Candidate(kind="values", items=1, arguments=arguments)


def _trajectory(facts: Facts) -> Candidate:
    """States, actions and rewards of an agent, and what it still wants to gain."""
    shape = (facts.request.batch, _STEPS)
    made = {
        "states": facts.floats(*shape, facts.setting("state_dim", default=1)),
        "actions": facts.floats(*shape, facts.setting("act_dim", default=1)),
        "rewards": facts.floats(*shape, 1),
        "returns_to_go": facts.floats(*shape, 1),
        "timesteps": torch.arange(_STEPS).expand(shape).clone(),
        "attention_mask": torch.ones(shape, dtype=torch.int64),
    }
    arguments = {name: value for name, value in made.items() if name in facts.accepted}
    return Candidate(kind="values", items=1, arguments=arguments)


def _series(facts: Facts) -> Iterator[Candidate]:
    """The past of a time series, with the features of its times."""
    batch = facts.request.batch
    length = facts.setting("context_length", default=64)
    lags = facts.setting("lags_sequence", default=())
    past = length + (max(lags) if lags else 0)
    channels = facts.setting("num_input_channels")
    width = channels or facts.setting("input_size", default=1)
    shapes = [(batch, past), (batch, past, width)]
    if channels is not None:
        shapes.reverse()
    for shape in shapes:
        whole = {"past_values": facts.floats(*shape), **_times(facts, shape, past)}
        without_future = {name: value for name, value in whole.items() if "future" not in name}
        for arguments in (whole, without_future):
            yield Candidate(kind="values", items=1, arguments=arguments)


def _times(facts: Facts, shape: tuple[int, ...], past: int) -> dict[str, torch.Tensor]:
    """Features of past and future times, which values were observed, the future itself."""
    batch, rest = shape[0], shape[2:]
    ahead = facts.setting("prediction_length", default=1)
    features = facts.setting("num_time_features", default=0)
    static = facts.setting("num_static_categorical_features", default=0)
    numbers = facts.setting("num_static_real_features", default=0)
    made = {
        "past_time_features": facts.floats(batch, past, features),
        "past_observed_mask": facts.floats(*shape),
    }
    if "past_time_features" in facts.accepted:  # a decoder that is told the times ahead
        made["future_time_features"] = facts.floats(batch, ahead, features)
        made["future_values"] = facts.floats(batch, ahead, *rest)
    if static:
        made["static_categorical_features"] = torch.zeros(batch, static, dtype=torch.int64)
    if numbers:
        made["static_real_features"] = facts.floats(batch, numbers)
    return {name: value for name, value in made.items() if name in facts.accepted}


# Diffusion models: noisy latents, a time step, and conditions. Latents are a picture ``[batch,
# channels, height, width]``, a video with frames in between, or a sequence of packed patches
# ``[batch, patches, channels]``. The configuration has the widths of the conditions under names
# that follow those of the arguments.

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
