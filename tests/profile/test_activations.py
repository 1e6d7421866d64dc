"""Activations of runs at several lengths, put together; what a pipeline made."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from devplan.core.findings import BlockActivation, RunRecord
from devplan.core.types import ActivationGrowth
from devplan.core.workload import Workload
from devplan.models.blocks import partition
from devplan.profile.activations import (
    contexts,
    joined_activations,
    made_shapes,
    measure_activations,
    most_needed,
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


def test_the_most_of_all_phases_counts_on_that_card_alone():
    found = (
        ("a", "prefill", "cuda:0", 7),
        ("a", "decode 1", "cuda:0", 9),
        ("a", "decode 2", "cuda:0", 3),
        ("a", "prefill", "cpu", 90),
        ("", "prefill", "cuda:0", 2),
        ("b", "prefill", "cpu", 5),
    )
    activations = tuple(
        BlockActivation(block=block, phase=phase, device=device, num_bytes=size)
        for block, phase, device, size in found
    )
    record = RunRecord(phases=("prefill",), inputs="text", activations=activations)
    assert most_needed(record, "cuda:0") == {"a": 9, "": 2}
    assert most_needed(record, "cpu") == {"a": 90, "b": 5}
    assert most_needed(record, "cuda:1") == {}


def test_code_that_is_not_here_is_not_run_and_what_raises_is_no_error(monkeypatch):
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64}
    skeleton = skeleton_of_type("llama", **small)
    sites = partition(skeleton.model)
    absent = replace(skeleton, executable=False)
    assert measure_activations(absent, sites, Workload(context=64)) == ActivationProfile()

    def fails(*args, **kwargs):
        raise ValueError("no such input\nand more")

    monkeypatch.setattr("devplan.profile.activations.example_inputs", fails)
    found = measure_activations(skeleton, sites, Workload(context=64))
    assert found.blocks == {} and found.between is None
    assert "no such input" in found.raised and "\n" not in found.raised
    (note,) = found.notes
    assert note.startswith("activations are not counted, the virtual run failed (")
    assert note.endswith("); --reserve holds them")
