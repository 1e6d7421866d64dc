"""Every benchmark works: each is run over less of everything.  Its times mean nothing here."""

from __future__ import annotations

import importlib
import re

import pytest

from benchmarks.__main__ import BENCHMARKS, COMPARING, FOLDER, main, measured_small
from benchmarks.report import as_markdown
from tools.commit import commit


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_measures_and_has_a_page(name):
    if name == COMPARING and commit() == "unknown":
        pytest.skip("no git repository, so no revision to compare with")
    module = importlib.import_module(f"benchmarks.{name}")
    whole = {each: getattr(module, each) for each in module.SMALL}
    report = measured_small(name)
    page = as_markdown(report, f"python -m benchmarks {name}")
    assert page.startswith(f"# {report.title}\n") and "; at commit " in page
    assert all(table.rows for table in report.tables)
    assert {each: getattr(module, each) for each in module.SMALL} == whole
    assert all(module.SMALL[each] != whole[each] for each in module.SMALL)


def test_a_benchmark_that_is_not_there(capsys):
    assert main(["speed"]) == 2
    assert "no benchmark 'speed'; there are command_line, " in capsys.readouterr().err


def test_a_revision_that_is_not_there(capsys):
    assert main(["commands", "--small", "--against", "no-such-branch"]) == 2
    said = capsys.readouterr().err
    assert "commands: git finds no revision 'no-such-branch' here" in said
    assert "--against REV" in said


def test_a_revision_where_nothing_is_compared(capsys):
    assert main(["solver", "--against", "HEAD"]) == 2
    assert "--against is for one benchmark only: commands" in capsys.readouterr().err


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_says_which_code_was_measured(page):
    assert re.search(r"\bcommits?\b[^.]*?\b[0-9a-f]{7}", page.read_text(encoding="utf-8"))
