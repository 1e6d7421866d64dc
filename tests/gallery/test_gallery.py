"""The gallery as it stands: complete, readable, listed, and what is planned today.

Everything is made and checked by ``make maps-check``; here the whole of it is read, and a few of
its maps are made again.
"""

from __future__ import annotations

import functools

import pytest

from devplan.catalog.models import load_entry, model_ids
from devplan.checker.checking import check
from tools.gallery.__main__ import check_row
from tools.gallery.index import FOLDER, INDEX, ROOT, Shown, gallery_maps, index_text
from tools.gallery.making import make_row
from tools.gallery.rows import CONTEXT_TOKENS, read_gallery

GALLERY = read_gallery()
NAMES = sorted(path.name for path in FOLDER.glob("*.yaml"))
FAST = ("openbmb/MiniCPM-V-4_5", "mistralai/Mistral-7B-Instruct-v0.3")
"""Made again here: a model without its code, and one with it."""


@functools.cache
def maps() -> dict[str, Shown]:
    """Every map by its file; read once, which takes seconds."""
    return {each.name: each for each in gallery_maps()}


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


def test_every_row_has_a_map():
    shown = {each.label for each in maps().values()}
    missing = {row.label for row in GALLERY.rows} - shown
    assert not missing, "see docs/catalogue.md, step 6: make maps"


def test_no_context_is_given_for_nothing():
    for row in GALLERY.rows:
        limit = load_entry(row.model).config.get("max_position_embeddings")
        tokens = row.request.tokens
        assert limit is None or tokens <= limit or tokens != CONTEXT_TOKENS


def test_the_index_is_what_the_maps_say():
    assert INDEX.read_text(encoding="utf-8") == index_text(GALLERY, list(maps().values()))


def test_every_link_of_the_index_leads_to_a_map():
    text = INDEX.read_text(encoding="utf-8")
    assert all(text.count(f"({name})") == 2 for name in NAMES)


def test_every_model_has_a_name_of_its_own_among_the_files():
    starts = [name.partition("__")[0] for name in NAMES]
    labels = {each.label for each in maps().values()}
    assert len(set(starts)) == len(labels)


@pytest.mark.parametrize("name", NAMES)
def test_every_map_is_proven_or_says_that_its_code_is_not_here(name):
    shown = maps()[name]
    verification = shown.content.verification
    if load_entry(shown.content.model.id).library == "tensors":
        assert verification.status == "unverified" and "code is not here" in verification.detail
    else:
        assert verification.status == "clean"
    assert shown.content.certificate.bottleneck <= 1


@pytest.mark.parametrize("model", FAST)
def test_made_again_it_is_the_same_and_the_check_finds_nothing(model):
    row = next(row for row in GALLERY.rows if row.model == model)
    assert check_row(GALLERY, row) == []


def test_a_map_that_was_changed_by_hand_is_noticed(tmp_path, monkeypatch):
    row = next(row for row in GALLERY.rows if row.model == FAST[0])
    made = make_row(GALLERY, row)
    (tmp_path / "maps").mkdir()
    for each in made:
        if each.path:
            (tmp_path / each.path).write_text(each.text.replace("cuda:0", "cuda:0 "))
    monkeypatch.setattr("tools.gallery.__main__.ROOT", tmp_path)
    monkeypatch.setattr("tools.gallery.__main__.make_row", lambda *_: made)
    monkeypatch.setattr("tools.gallery.__main__._files_of", lambda _: ["maps/of-old.yaml"])
    problems = check_row(GALLERY, row)
    assert len(problems) == sum(1 for each in made if each.path) + 1
    assert all("make maps" in problem for problem in problems)


def test_the_map_of_the_readme_is_clean():
    path = ROOT / "maps" / "qwen2.5-vl-7b-instruct__24+12gib__b1-c32768.yaml"
    assert check("Qwen/Qwen2.5-VL-7B-Instruct", path).is_clean
