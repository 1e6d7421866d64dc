"""A tenth of the types, drawn by a fixed seed: check and reality agree on one map and one call.

``make differential`` has all types, two maps of each, every way of loading and every call.
"""

from __future__ import annotations

import random

import pytest

from tools.differential.__main__ import PAGE, SEED
from tools.differential.attempt import attempt
from tools.differential.explained import load_explanations, unexplained
from tools.differential.judge import disagreements
from tools.differential.row import Stage
from tools.sweep.universe import model_classes

CLASSES = model_classes()
TENTH = random.Random(SEED).sample(sorted(CLASSES), len(CLASSES) // 10)
LEFT_OUT = "## Types that are not compared"
HEAVY = frozenset(
    [
        "efficientnet",
        "longcat_flash",
        "exaone4_5",
        "falcon_h1",
        "hgnet_v2",
        "layoutlmv3",
        "llava_onevision",
        "mimi",
        "pp_formulanet",
        "pp_ocrv5_server_rec",
        "prompt_depth_anything",
        "seggpt",
        "slanext",
        "tipsv2",
        "tipsv2_dpt",
        "upernet",
        "musicgen",
        "zoedepth",
    ]
)
"""Take more than 2.5 s of the processor each; the others take 45 s together."""


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(t, marks=pytest.mark.slow if t in HEAVY else ()) for t in TENTH],
)
def test_check_and_reality_agree(model_type):
    found = attempt(model_type, CLASSES[model_type], brief=True)
    left_out = PAGE.read_text(encoding="utf-8").partition(LEFT_OUT)[2]
    assert found.stage is Stage.RAN or f"| {model_type} |" in left_out, found.reason
    assert unexplained(disagreements(found), load_explanations()) == []
