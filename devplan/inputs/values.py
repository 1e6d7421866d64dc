"""Candidates for what is neither text nor image nor sound: series, features of other models."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from devplan.inputs.facts import Facts
from devplan.inputs.media import Candidate


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
