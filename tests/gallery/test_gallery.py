"""The gallery as it stands: complete, readable, listed, and what is planned today.

Everything is made and checked by ``make maps-check``; here the whole of it is read, and a few of
its maps are made again.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from devplan.catalog.models import load_entry, model_ids
from devplan.checker.checking import check
from devplan.core.types import DeviceMapFile
from devplan.mapfile import to_document
from tools.gallery.__main__ import check_row, stale_files
from tools.gallery.index import INDEX, in_order, index_text, kept_maps
from tools.gallery.making import make_row
from tools.gallery.rows import CONTEXT_TOKENS, read_gallery
from tools.gallery.table import FOLDER, ROOT, TABLE, line_of, read_table, table_text, values_hash

GALLERY = read_gallery()
LINES = read_table()
KEPT = [line for line in LINES if line.file]
FAST = ("openbmb/MiniCPM-V-4_5", "mistralai/Mistral-7B-Instruct-v0.3")
"""Made again here: a model without its code, and one with it."""


@functools.cache
def maps() -> dict[str, DeviceMapFile]:
    """Every map that is kept, by its file; read once, which takes seconds."""
    return kept_maps()


def asked_for() -> list[str]:
    """Models and pipelines of the catalogue; parts of a pipeline are not."""
    return [name for name in model_ids() if name.count("/") == 1]


def test_every_model_of_the_catalogue_is_shown_or_left_out_with_a_reason():
    labels = [row.label for row in GALLERY.rows]
    shown = [row.model for row in GALLERY.rows if not row.packed]
    assert len(labels) == len(set(labels))
    assert len(shown) == len(set(shown))
    assert {*shown, *GALLERY.left_out} == {*asked_for()}, "see docs/catalogue.md, step 5"
    assert not {*shown} & {*GALLERY.left_out}
    assert all(GALLERY.left_out.values())


def test_every_row_has_a_line():
    missing = {row.label for row in GALLERY.rows} - {line.model for line in LINES}
    assert not missing, "see docs/catalogue.md, step 6: make maps"


def test_no_context_is_given_for_nothing():
    for row in GALLERY.rows:
        limit = load_entry(row.model).config.get("max_position_embeddings")
        tokens = row.request.context
        assert None in (limit, tokens) or tokens <= limit or tokens != CONTEXT_TOKENS


def test_the_table_is_in_order_and_the_index_says_what_it_says():
    assert TABLE.read_text(encoding="utf-8") == table_text(in_order(GALLERY, LINES))
    assert INDEX.read_text(encoding="utf-8") == index_text(GALLERY, LINES)
    assert stale_files(GALLERY) == []


def test_the_files_are_those_that_are_to_be_kept():
    assert sorted(path.name for path in FOLDER.glob("*.yaml")) == sorted(line.file for line in KEPT)
    kept = {(row.label, gpus) for row in GALLERY.rows for gpus in row.files}
    assert kept == {(line.model, line.gpus) for line in KEPT}
    assert 20 <= len(KEPT) <= 30


def test_every_link_of_the_index_leads_to_a_map():
    text = INDEX.read_text(encoding="utf-8")
    assert all(text.count(f"({line.file})") == 1 for line in KEPT)


def test_every_model_has_a_name_of_its_own_among_the_files():
    starts = {row.start for row in GALLERY.rows}
    assert len(starts) == len(GALLERY.rows)


@pytest.mark.parametrize("line", KEPT, ids=lambda line: line.file)
def test_the_line_of_a_map_says_what_its_file_says(line):
    assert line == line_of(line.gpus, maps()[line.file], line.file)


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{line.model} on {line.gpus}")
def test_every_map_is_proven_or_says_that_its_code_is_not_here(line):
    model = line.model.removesuffix(" (packed)")
    without_code = load_entry(model).library == "tensors"
    assert line.verified == ("unverified" if without_code else "clean")
    share, bound = (float(text.rstrip("%")) for text in (line.share, line.bound))
    assert bound <= share <= 100


def test_the_hash_follows_the_values_and_not_the_releases():
    content = maps()["mixtral-8x7b-v0.1__2x80gib__b1-c8192.yaml"]
    document = to_document(content)
    other_release = to_document(replace(content, versions={"torch": "9"}))
    assert values_hash(other_release) == values_hash(document)
    moved = {**document["device_map"], "lm_head": 1}
    assert values_hash({**document, "device_map": moved}) != values_hash(document)


@pytest.mark.parametrize("model", FAST)
def test_made_again_it_is_the_same_and_the_check_finds_nothing(model):
    row = next(row for row in GALLERY.rows if row.model == model)
    made, problems = check_row(GALLERY, row)
    assert problems == []
    assert in_order(GALLERY, made) == [line for line in LINES if line.model == model]


def test_a_map_that_was_changed_by_hand_is_noticed(tmp_path, monkeypatch):
    row = next(row for row in GALLERY.rows if row.model == FAST[0])
    made = make_row(GALLERY, row)
    (tmp_path / "maps").mkdir()
    for each in made:
        if each.is_kept:
            (tmp_path / each.path).write_text(each.text.replace("cuda:0", "cuda:0 "))
    monkeypatch.setattr("tools.gallery.__main__.ROOT", tmp_path)
    monkeypatch.setattr("tools.gallery.__main__.make_row", lambda *_: made)
    monkeypatch.setattr("tools.gallery.__main__._files_of", lambda _: ["maps/of-old.yaml"])
    _, problems = check_row(GALLERY, row)
    assert len(problems) == sum(1 for each in made if each.is_kept) + 1
    assert all("make maps" in problem for problem in problems)


def test_a_line_that_is_no_longer_so_says_what_changed(monkeypatch):
    row = next(row for row in GALLERY.rows if row.model == FAST[0])
    made = make_row(GALLERY, row)
    own = [line for line in LINES if line.model == row.label]
    changed = [replace(own[0], share="99.9%"), *own[2:], replace(own[1], gpus="3x24GiB")]
    monkeypatch.setattr("tools.gallery.__main__.make_row", lambda *_: made)
    monkeypatch.setattr("tools.gallery.__main__.read_table", lambda: changed)
    _, problems = check_row(GALLERY, row)
    assert f"{row.label} on {own[0].gpus}: share '99.9%' -> '{own[0].share}'" in problems[0]
    assert [text for text in problems if "adds it" in text and own[1].gpus in text]
    assert [text for text in problems if "removes it" in text and "3x24GiB" in text]
    assert len(problems) == 3


def test_the_map_of_the_readme_is_clean():
    path = ROOT / "maps" / "qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"
    assert check("Qwen/Qwen2.5-VL-7B-Instruct", path).is_clean
