"""One zygote for all attacks of a process of tests."""

from __future__ import annotations

import pytest

from tests.attacks.zygote import Zygote


@pytest.fixture(scope="session")
def zygote():
    running = Zygote()
    yield running
    running.close()
