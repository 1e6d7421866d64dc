"""Every attack of ``cases/``; the slow ones are behind ``make attacks``."""

from __future__ import annotations

import pytest

from tests.attacks.attack import load_attacks
from tests.attacks.trying import try_attack

ATTACKS = load_attacks()


def _parameters():
    for attack in ATTACKS:
        marks = [pytest.mark.slow] if attack.slow else []
        yield pytest.param(attack, id=attack.name, marks=marks)


@pytest.mark.parametrize("attack", list(_parameters()))
def test_attack(attack, zygote, tmp_path):
    outcome, found = try_attack(attack, zygote, tmp_path / "world")
    assert not found, f"{attack.what}\n{found}\n{outcome}"


def test_there_are_many_and_each_says_what_must_be_so():
    assert len([attack for attack in ATTACKS if not attack.slow]) >= 80
    for attack in ATTACKS:
        assert attack.what.endswith("."), attack.name
