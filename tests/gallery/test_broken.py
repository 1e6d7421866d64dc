"""Every map of ``maps/broken`` is refused, for the reasons that its head declares."""

from __future__ import annotations

import json
import re

import pytest

from devplan.cli.app import main
from devplan.rules.table import RULES
from tools.gallery.refused import PAGE, broken_maps, page_text
from tools.gallery.table import ROOT

MAPS = broken_maps()


def test_there_are_enough():
    assert len(MAPS) >= 12
    assert len({code for each in MAPS for code in each.codes}) >= 10


@pytest.mark.parametrize("each", MAPS, ids=lambda each: each.path.stem)
def test_a_head_tells_a_story_with_its_source(each):
    assert each.title.endswith(".") and sum(len(line) for line in each.story) > 150
    assert each.codes and each.codes <= set(RULES)
    assert "--gpus" in each.options
    for source in each.sources:
        is_report = re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+/(issues|pull)/\d+", source)
        assert is_report or (ROOT / source).is_file(), source
    assert each.sources


def test_the_page_lists_them():
    assert PAGE.read_text(encoding="utf-8") == page_text(MAPS), "make maps"


def slow_ones() -> list:
    """All of them, those of the largest models with the mark ``slow``."""
    large = ("half-a-card-for-the-tower", "silent-spill", "cards-of-another-machine")
    return [
        pytest.param(
            each, id=each.path.stem, marks=pytest.mark.slow if each.path.stem in large else ()
        )
        for each in MAPS
    ]


@pytest.mark.parametrize("each", slow_ones())
def test_it_is_refused_for_what_it_declares(each, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    path = each.path.relative_to(ROOT).as_posix()
    status = main(["check", path, *each.options, "--strict", "--format", "json"])
    said = capsys.readouterr()
    assert status == 1, said.err
    findings = json.loads(said.out)["maps"][0]["findings"]
    refused = {each["code"] for each in findings if each["severity"] in ("error", "warning")}
    assert each.codes <= refused
