"""A model that is followed on one card and one that is split by a map: the same run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from devplan.models.blocks import partition
from devplan.virtual import run as engine
from devplan.virtual.calls import ForwardCall
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import OneCard, on_one_card, run_split
from devplan.virtual.tracing import Trace
from tests.profile.twins import CASES
from tests.virtual.models import skeleton_of_type

CALL = ForwardCall()


def inputs() -> dict:
    return {"input_ids": torch.ones(1, 24, dtype=torch.int64)}


@pytest.mark.parametrize("model_type", ["llama", "gpt_oss", "mamba"])
def test_blocks_and_caches_are_the_same_on_one_card_and_on_two(model_type):
    skeleton = skeleton_of_type(model_type, **dict(CASES)[model_type])
    model, sites = skeleton.model, partition(skeleton.model, skeleton.no_split)
    alone = on_one_card(model, skeleton.config, sites)
    trace = Trace()
    with OneCard(model, skeleton.config, sites) as card:
        card.placed.follow(inputs(), call=CALL, observers=(trace,))
    layers = [site.name for site in sites if site.stack is not None]
    device_map = {site.name: "cuda:0" for site in sites} | {layers[-1]: "cuda:1"}
    split = replace(alone, device_map=device_map, cards=(VirtualCard(),) * 2)
    one, two = (
        run_split(each, inputs(), described="", call=CALL, fold=False) for each in (alone, split)
    )
    assert set(trace.order) == one.executed == two.executed
    caches = [sum(peak.cache_bytes for peak in each.peaks) for each in (one, two)]
    assert caches[0] == caches[1]
    weights = [sum(peak.weight_bytes for peak in each.peaks) for each in (one, two)]
    assert weights[0] == weights[1]


def test_calls_on_one_card_share_a_placement_and_leave_the_model_as_it_was(monkeypatch):
    placed = []
    real = engine.dispatched
    monkeypatch.setattr(engine, "dispatched", lambda split: placed.append(split) or real(split))
    skeleton = skeleton_of_type("llama", **dict(CASES)["llama"])
    sites = partition(skeleton.model, skeleton.no_split)
    before = dict(vars(skeleton.model))
    with OneCard(skeleton.model, skeleton.config, sites) as card:
        assert not placed
        ops = [card.placed.follow(inputs(), call=CALL).execution.num_ops for _ in range(2)]
        assert len(placed) == 1 and ops[0] == ops[1]
        card.clear()
        assert vars(skeleton.model) == before
        card.placed.follow(inputs(), call=CALL)
    assert len(placed) == 2
    assert vars(skeleton.model) == before
