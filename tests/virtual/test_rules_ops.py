"""Every case of ``rules_cases``, asked on labels."""

from __future__ import annotations

from functools import partial

import pytest

from tests.virtual.rules_bench import at, judged
from tests.virtual.rules_cases import CASES

NEAR = "cuda:0"


@pytest.mark.parametrize("far", ["cpu", "cuda:1"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, far):
    label = None if far == "cpu" else far  # a plain CPU tensor has no label
    mode = judged(partial(case.run, partial(at, NEAR), partial(at, label)))
    expected = case.cpu if far == "cpu" else case.gpu
    messages = [mismatch.message for mismatch in mode.mismatches]
    assert messages[:1] == ([] if expected is None else [expected.format(near=NEAR, far=far)])
    assert not any(mismatch.assumed for mismatch in mode.mismatches)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_on_one_device_is_silent(case):
    for device in (None, "cpu", "cuda:1"):
        mode = judged(partial(case.run, partial(at, device), partial(at, device)))
        assert mode.mismatches == []
