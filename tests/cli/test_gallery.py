"""The maps that the repository shows: readable, and what devplan says today.

After a change that is meant to change them: ``make maps``, and look at the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from devplan.mapfile import read_map

ROOT = Path(__file__).parents[2]
MAPS = sorted((ROOT / "maps").glob("*.yaml"))


def test_the_gallery_is_not_empty():
    assert MAPS


@pytest.mark.parametrize("path", MAPS, ids=lambda path: path.stem)
def test_every_map_can_be_read(path):
    assert read_map(path).device_map


def test_the_demo_gives_the_map_that_is_shown(devplan, here):
    recipe = re.search(r"^DEMO := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    answer = devplan(*recipe[1].split())
    assert (answer.status, answer.err) == (0, "")
    (written,) = answer.files
    now, shown = (yaml.safe_load((folder / written).read_text()) for folder in (here, ROOT))
    # [versions] those of the reader may differ from the pinned ones; the plan must not.
    del now["versions"], shown["versions"]
    assert now == shown
