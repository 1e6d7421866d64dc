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


def _series(facts: Facts) -> Iterator[Candidate]:
    """The past of a time series, with the features of its times."""
    batch = facts.request.batch
    length = facts.setting("context_length", default=64)
    lags = facts.setting("lags_sequence", default=())
    past = length + (max(lags) if lags else 0)
    width = facts.setting("num_input_channels", "input_size", default=1)
    shapes = [(batch, past), (batch, past, width)]
    if (facts.takes("past_time_features") is None and width > 1) or "num_input_channels" in dir(
        facts.config
    ):
        shapes.reverse()
    for shape in shapes:
        arguments = {"past_values": facts.floats(*shape)}
        arguments.update(_times(facts, shape, past))
        yield Candidate(kind="values", items=1, arguments=arguments)


def _times(facts: Facts, shape: tuple[int, ...], past: int) -> dict[str, torch.Tensor]:
    """Features of past and future times, observed values, the future for the decoder."""
    batch, rest = shape[0], shape[2:]
    ahead = facts.setting("prediction_length", default=1)
    features = facts.setting("num_time_features", default=0)
    static = facts.setting("num_static_categorical_features", default=0)
    numbers = facts.setting("num_static_real_features", default=0)
    made = {
        "past_time_features": facts.floats(batch, past, features),
        "future_time_features": facts.floats(batch, ahead, features),
        "past_observed_mask": facts.floats(*shape),
        "future_values": facts.floats(batch, ahead, *rest),
    }
    if static:
        made["static_categorical_features"] = torch.zeros(batch, static, dtype=torch.int64)
    if numbers:
        made["static_real_features"] = facts.floats(batch, numbers)
    wanted = ("past_time_features", "future_time_features", "past_observed_mask", "future_values")
    return {
        name: value
        for name, value in made.items()
        if name in facts.accepted and (name in facts.required or name not in wanted or features)
    }
