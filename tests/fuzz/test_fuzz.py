"""Inputs of a seed that stays, and that the fuzzer makes and shortens them as it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.inputs import KINDS, make_input
from tests.fuzz.minimise import minimised
from tests.fuzz.mutate import mutated_bytes, mutated_tree

ROOT = Path(__file__).parents[2]
FUZZ = (sys.executable, "-m", "tests.fuzz", "--no-page", "--processes", "1")
INPUTS = 150


def test_inputs_of_a_seed_that_stays(tmp_path):
    done = subprocess.run(
        [*FUZZ, "--inputs", str(INPUTS), "--seed", "steady", "--kept", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert f"{INPUTS} inputs of seed steady, 0 failed" in done.stdout


@given(st.integers(0, 2**32))
def test_an_input_follows_from_its_number(number):
    assert make_input("x", number) == make_input("x", number)


def test_every_kind_comes():
    assert {make_input("x", number)[0] for number in range(400)} == set(KINDS)


@given(st.randoms(use_true_random=False), st.binary(max_size=200))
def test_bytes_are_changed_by_the_generator_alone(rng, data):
    state = rng.getstate()
    changed = mutated_bytes(rng, data)
    rng.setstate(state)
    assert mutated_bytes(rng, data) == changed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(st.randoms(use_true_random=False), json_values)
def test_a_tree_is_not_changed_in_place(rng, tree):
    before = json.dumps(tree)
    mutated_tree(rng, tree)
    assert json.dumps(tree) == before


def test_what_fails_is_made_small():
    content = {"files": {"a": "x" * 50 + "bad" + "y" * 50, "b": "z"}, "run": ["check", "a", "b"]}
    small = minimised(content, lambda c: "bad" in c["files"].get("a", ""))
    assert small == {"files": {"a": "bad"}, "run": ["check"]}


def test_random_is_enough_for_all_kinds():
    for _, make in KINDS.values():
        content = make(Random(1))
        assert content["run"]
