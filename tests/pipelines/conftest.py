"""Tiny pipelines as ``save_pretrained`` writes them, and what is known of each before a plan."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.pipelines.tiny import SIZES, tiny_pipeline

pytest.importorskip("diffusers")


@pytest.fixture(scope="session")
def saved(tmp_path_factory) -> Callable[[str], Path]:
    """Name -> folder of the pipeline."""

    @cache
    def save(name: str) -> Path:
        folder = tmp_path_factory.mktemp("pipelines") / name
        tiny_pipeline(name).save_pretrained(folder)
        return folder

    return save


@pytest.fixture(scope="session")
def studied(saved):
    """Name -> the pipeline, built and run virtually at the size that `SIZES` asks for."""
    from devplan.machine.parse import parse_gpus
    from devplan.workflows.profiled_model import study

    @cache
    def known(name: str):
        return study(str(saved(name)), request_of(name), (parse_gpus("2x1GiB"),))

    return known


def request_of(name: str):
    """The workload of a tiny pipeline: a short prompt, and what `SIZES` says."""
    from devplan.core.workload import Workload

    size = SIZES[name]
    return Workload(
        context=32,
        image_size=(size["height"], size["width"]),
        frames=size.get("num_frames"),
    )


@pytest.fixture(scope="session")
def split_flux(studied, tmp_path_factory) -> Path:
    """Map of a Flux whose transformer lies on both cards."""
    from tests.pipelines.maps import split_map

    return split_map(studied("flux"), tmp_path_factory.mktemp("split"))


@pytest.fixture(scope="session")
def on_disk(studied, tmp_path_factory) -> Path:
    """Map of a Qwen-Image of which something is on disk."""
    from tests.pipelines.maps import offloaded_map

    return offloaded_map(studied("qwen-image"), "disk", tmp_path_factory.mktemp("on_disk"))
