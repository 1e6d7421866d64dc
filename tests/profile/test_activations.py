"""Activations of runs at several lengths, put together; what a pipeline made."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from devplan.core.types import ActivationGrowth
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.profile.activations import (
    contexts,
    joined_activations,
    made_shapes,
    measure_activations,
    rising,
)
from devplan.profile.model import ActivationProfile
from tests.virtual.models import skeleton_of_type


def growth(*samples: tuple[int, int], batch: int = 2) -> ActivationGrowth:
    return ActivationGrowth(samples=samples, batch=batch)


def test_needs_never_fall_with_the_tokens():
    assert rising({64: 5, 16: 9, 4: 1, 256: 12}) == ((4, 1), (16, 9), (64, 9), (256, 12))
    assert rising({}) == ()


def test_two_profiles_know_the_larger_need_of_each_length():
    first = ActivationProfile(
        blocks={"a": growth((4, 10), (64, 20)), "b": growth((4, 1))},
        between=growth((4, 2)),
        raised="why",
        notes=("one", "both"),
    )
    second = ActivationProfile(
        blocks={"a": growth((4, 5), (16, 30), (64, 25)), "c": growth((4, 3))},
        between=growth((4, 7)),
        notes=("both", "two"),
    )
    joined = joined_activations(first, second)
    assert joined.blocks == {
        "a": growth((4, 10), (16, 30), (64, 30)),
        "b": growth((4, 1)),
        "c": growth((4, 3)),
    }
    assert joined.between == growth((4, 7))
    assert joined.notes == ("one", "both", "two") and joined.raised == "why"
    assert list(joined.blocks) == ["a", "b", "c"]


def test_a_profile_that_could_not_be_had_adds_nothing():
    first = ActivationProfile(blocks={"a": growth((4, 1))})
    raised = ActivationProfile(raised="no", notes=("no",))
    assert joined_activations(first, raised) is first
    only_between = ActivationProfile(between=growth((4, 3)))
    assert joined_activations(first, only_between).between == growth((4, 3))
    assert joined_activations(raised, first).blocks == first.blocks


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (4096, (256, 1024, 4096)),
        (512, (32, 128, 512)),
        (200, (32, 50, 200)),
        (64, (32, 64)),
        (20, (20,)),
        (1, (1,)),
    ],
)
def test_the_contexts_that_are_run(context, expected):
    assert contexts(context) == expected


@pytest.mark.parametrize(
    ("output", "shapes"),
    [
        ({"frames": torch.zeros(1, 9, 3, 32, 48)}, [(9, 32, 48)]),
        ({"images": torch.zeros(2, 3, 32, 48)}, [(1, 32, 48)]),
        ({"images": ["a picture"]}, []),
        ({}, []),
    ],
)
def test_what_a_pipeline_made(output, shapes):
    assert made_shapes(SimpleNamespace(**output)) == shapes


def test_every_context_is_run_and_the_batch_is_that_of_the_workload():
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64}
    skeleton = skeleton_of_type("llama", **small)
    found = measure_activations(skeleton, partition(skeleton.model), Workload(context=256, batch=3))
    layer = found.blocks["model.layers.1"]
    assert [tokens for tokens, _ in layer.samples] == [32, 64, 256] and layer.batch == 3
    assert all(size > 0 for _, size in layer.samples)
    assert found.raised == "" and found.notes == ()
