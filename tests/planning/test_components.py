"""What stays together of a pipeline whose components are split."""

from __future__ import annotations

import pytest

from devplan.core.types import BlockGraph
from devplan.planning.components import _glue
from tests.planning.strategies import block

GRAPH = BlockGraph(
    blocks=(
        block("text.embed", 1),
        block("text.layers.0", 1, stack="text.layers"),
        block("text.layers.1", 1, stack="text.layers"),
        block("text.norm", 1),
        block("text.head", 1),
        block("vae.encoder", 1),
        block("vae.decoder", 1),
        block("safety", 1),
    ),
    components=("text", "vae", "safety"),
)
# What lies before a layer goes with it, what lies behind the last one with that.
TEXT = [("text.embed", "text.layers.0"), ("text.layers.1", "text.norm", "text.head")]
VAE = [("vae.encoder", "vae.decoder")]


@pytest.mark.parametrize(
    ("apart", "groups"),
    [
        ((), [tuple(name for name in GRAPH.names if name.startswith("text")), *VAE]),
        (("text",), [*TEXT, *VAE]),
        # without layers nothing of it can be split
        (("text", "vae", "safety"), [*TEXT, *VAE]),
    ],
)
def test_blocks_that_stay_together(apart, groups):
    assert _glue(GRAPH, frozenset(apart)) == groups
