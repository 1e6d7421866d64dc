"""The whole reports, compared with ``golden/*.txt`` character by character.

To renew them after a wanted change, and to read the difference with git::

    DEVPLAN_OVERWRITE=1 python -m pytest tests/report/test_golden.py
    git diff tests/report/golden
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from devplan.mapfile.write import dump_map
from devplan.report.suggestion import infeasible_json, infeasible_text, plan_json, plan_text
from devplan.report.terminal import Terminal
from tests.report.example_plans import (
    INFEASIBLE,
    INFEASIBLE_GRAPH,
    MAP_FILE,
    MAP_PATH,
    MODEL,
    PLAN,
    TIMED,
    TIMED_FILE,
    WORKLOAD,
    machine,
    offload_plan,
)

GOLDEN = Path(__file__).parent / "golden"
PIPE = Terminal()
INFEASIBLE_CASE = (INFEASIBLE, MODEL, machine(24, 12), WORKLOAD)

REPORTS = {
    "plan": lambda: plan_text(PLAN, MAP_FILE, PIPE, MAP_PATH, "written"),
    "plan_ascii": lambda: plan_text(PLAN, MAP_FILE, Terminal(unicode=False), MAP_PATH),
    "plan_colours": lambda: plan_text(PLAN, MAP_FILE, Terminal(colours=True), MAP_PATH),
    "plan_wide": lambda: plan_text(PLAN, MAP_FILE, Terminal(width=110), MAP_PATH),
    "offload": lambda: plan_text(*offload_plan(), PIPE, MAP_PATH, "unchanged"),
    "timed": lambda: plan_text(TIMED, TIMED_FILE, PIPE, MAP_PATH),
    "infeasible": lambda: infeasible_text(*INFEASIBLE_CASE, INFEASIBLE_GRAPH, PIPE),
    "plan_json": lambda: plan_json(PLAN, MAP_FILE, MAP_PATH),
    "infeasible_json": lambda: infeasible_json(*INFEASIBLE_CASE),
    "map_file": lambda: dump_map(MAP_FILE),
    "map_file_timed": lambda: dump_map(TIMED_FILE),
    "map_file_offload": lambda: dump_map(offload_plan()[1]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_golden(name):
    text, path = REPORTS[name](), GOLDEN / f"{name}.txt"
    if os.environ.get("DEVPLAN_OVERWRITE"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text


def test_no_golden_file_is_forgotten():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(REPORTS)
