"""Unknown names, and what they were probably meant to be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.rules.unknown_module import Renames, moved_prefix

NAMES = (
    "model",
    "model.visual",
    "model.visual.blocks.0",
    "model.language_model",
    "model.language_model.embed_tokens",
    "model.language_model.layers",
    "model.language_model.layers.0",
    "model.language_model.layers.10",
    "model.language_model.norm",
    "lm_head",
)
PARTS = st.lists(st.sampled_from(["a", "b", "c", "0", "1"]), min_size=1, max_size=5).filter(
    # [numbers] are told apart by the stack that they count, so a bare one is no name.
    lambda parts: not parts[0].isdecimal()
)


@pytest.mark.parametrize(
    "old, new",
    [
        ("visual", "model.visual"),
        ("model.embed_tokens", "model.language_model.embed_tokens"),
        ("model.layers.0", "model.language_model.layers.0"),
        ("model.layers.10", "model.language_model.layers.10"),
        ("language_model.model.norm", "model.language_model.norm"),
        ("language_model.lm_head", "lm_head"),
        ("visual.blocks.0", "model.visual.blocks.0"),
    ],
)
def test_renames_between_releases(old, new):
    assert Renames(NAMES).candidates(old) == (new,)


@pytest.mark.parametrize("old", ["transformer.h.0", "model.layers.1", "nothing", "layers.00"])
def test_no_candidate(old):
    assert Renames(NAMES).candidates(old) == ()


def test_equally_good_candidates_are_all_told():
    renames = Renames(["encoder.norm", "decoder.norm"])
    assert renames.candidates("norm") == ("encoder.norm", "decoder.norm")


def test_one_rename_of_many_entries():
    pairs = [
        ("model.layers.0", "model.language_model.layers.0"),
        ("model.norm", "model.language_model.norm"),
    ]
    assert {moved_prefix(*pair) for pair in pairs} == {("model", "model.language_model")}


@given(PARTS, st.lists(st.sampled_from(["x", "y"]), min_size=1, max_size=2))
def test_an_added_prefix_is_always_found(parts, added):
    old, new = ".".join(parts), ".".join([*added, *parts])
    assert Renames([new]).candidates(old) == (new,)
    assert Renames([old]).candidates(new) == (old,)
