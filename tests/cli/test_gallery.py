"""The map that the README shows is what devplan says today; ``tools/gallery`` has all the others.

After a change that is meant to change them: ``make maps``, and look at the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]


def test_the_demo_gives_the_map_that_is_shown(devplan, here):
    recipe = re.search(r"^DEMO := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    answer = devplan(*recipe[1].split())
    assert (answer.status, answer.err) == (0, "")
    (written,) = answer.files
    now, shown = (yaml.safe_load((folder / written).read_text()) for folder in (here, ROOT))
    # [versions] those of the reader may differ from the pinned ones; the plan must not.
    del now["versions"], shown["versions"]
    assert now == shown
