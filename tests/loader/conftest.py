"""Checkpoints made once for all tests of the loader."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.loader import checkpoints


@pytest.fixture(scope="session")
def place(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("loader")


@pytest.fixture(scope="session")
def checkpoint_of(place):
    """``checkpoint_of("tied")``: made at its first use."""
    made: dict[str, checkpoints.Checkpoint] = {}

    def get(name: str) -> checkpoints.Checkpoint:
        if name not in made:
            made[name] = checkpoints.make(name, place)
        return made[name]

    return get


@pytest.fixture(scope="session")
def tied(checkpoint_of) -> checkpoints.Checkpoint:
    """A Llama whose head is its embedding."""
    return checkpoint_of("tied")


@pytest.fixture(scope="session")
def experts(checkpoint_of) -> checkpoints.Checkpoint:
    """A Mixtral: its weights on disk must be written anew, as they are stored expert by expert."""
    return checkpoint_of("experts")
