"""The reports of made-up machines, word by word; ``docs/environment.md`` quotes them.

To renew them after a wanted change::

    DEVPLAN_OVERWRITE=1 python -m pytest tests/environment/test_report.py
    git diff tests/environment/golden
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from devplan.core.environment import CardUse
from devplan.core.units import GIB, MIB
from devplan.machine.parse import parse_gpus
from devplan.report.environment import doctor_text
from devplan.report.terminal import Terminal
from devplan.rules.environment import differences
from tests.environment.machines import MAP_PATH, VERSIONS, card, example_map, machine

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "environment.md"
NAME = MAP_PATH.relative_to(MAP_PATH.parents[1]).as_posix()


def two_cards(**fields):
    """The small card first, and a process on the large one."""
    small = card(0, 11.59, "NVIDIA GeForce RTX 3060", compute_capability=(8, 6), driver_index=1)
    large = card(
        1,
        23.52,
        "NVIDIA GeForce RTX 4090",
        compute_capability=(8, 9),
        driver_index=0,
        **fields,
    )
    return machine(
        small,
        large,
        variables={"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        links=parse_gpus("rtx-3060,rtx-4090").links,
        peers={("cuda:0", "cuda:1"): False, ("cuda:1", "cuda:0"): False},
    )


def moved():
    return replace(two_cards(), versions={**VERSIONS, "transformers": "5.22.1"})


def in_use():
    here = machine(
        card(0, 23.52, "NVIDIA GeForce RTX 4090", taken_gib=14, compute_capability=(8, 9)),
        card(1, 11.59, "NVIDIA GeForce RTX 3060", compute_capability=(8, 6)),
    )
    use = CardUse(uuid="GPU-0", pid=4711, name="python", held_bytes=14 * GIB - 300 * MIB)
    return replace(here, uses=(use,))


CASES = {"moved": moved, "in_use": in_use, "laptop": lambda: machine(torch_cuda=None)}


@pytest.mark.parametrize("name", CASES)
def test_what_people_read(name):
    environment, map_file = CASES[name](), example_map()
    found = differences(map_file, environment)
    text = doctor_text(environment, found, Terminal(), map_file=map_file, map_name=NAME)
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("DEVPLAN_OVERWRITE"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_the_page_quotes_what_is_printed():
    page = DOCS.read_text(encoding="utf-8")
    for name in ("moved", "in_use"):
        text = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
        for part in text.split("\n\n"):
            if part.startswith(("error", "warning")):
                assert part.rstrip() in page, name
    assert (GOLDEN / "moved.txt").read_text(encoding="utf-8") in page
