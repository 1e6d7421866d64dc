"""Predictions of a few published cases, and the page that is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.receipts.cases import Case, read_cases, read_sources
from tools.receipts.page import page_text
from tools.receipts.prediction import Comparison, compared

ROOT = Path(__file__).parents[1]
QUICK = {
    "octocoder/short": 0.005,
    "qwen3-8b/6144": 0.005,
    "qwen1.5-moe-a2.7b/b1/16+16/batched_mm": 0.005,
}
"""Case -> the error that it may have."""


def _case(id: str) -> Case:
    return next(case for case in read_cases() if case.id == id)


def test_every_case_names_a_source_and_has_a_name_of_its_own() -> None:
    cases, sources = read_cases(), read_sources()
    assert {case.source for case in cases} == set(sources)
    assert len({case.id for case in cases}) == len(cases)


@pytest.mark.parametrize("id", QUICK)
def test_a_published_case_is_predicted(id: str, tmp_path) -> None:
    found = compared(_case(id), tmp_path)
    assert not found.reason
    assert abs(found.error) <= QUICK[id]


def test_a_case_of_an_unknown_model_is_not_compared(tmp_path) -> None:
    case = Case(
        id="no", group="dense", model=str(tmp_path / "none"), measured=1, unit="GiB",
        mode="loaded", source="s1", batch=1,
    )  # fmt: skip
    found = compared(case, tmp_path)
    assert found.predicted_bytes is None and found.reason
    assert "## Not compared" in page_text([found, _exact(_case("octocoder/short"))])


def test_what_an_older_release_did_otherwise_does_not_count() -> None:
    older = next(case for case in read_cases() if case.differs)
    text = page_text([_exact(_case("octocoder/short")), _exact(older)])
    all_cases = next(line for line in text.splitlines() if line.startswith("| all "))
    assert "1 of 1" in all_cases
    assert older.differs in text


def _exact(case: Case) -> Comparison:
    return Comparison(case=case, predicted_bytes=case.measured_bytes)


def test_the_readme_says_what_the_page_says() -> None:
    page = (ROOT / "docs" / "measurements" / "published.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| all "))
    _, _, num_cases, median, _, _, within_5, _ = (cell.strip() for cell in row.split("|"))
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"Of {num_cases} cases that others measured" in readme
    assert f"a median error of {median}, and {within_5} are within 5%" in readme
