"""The table of rules, their pages, and the steps that one forgets when adding a rule."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from devplan.core.findings import Severity
from devplan.rules.table import FAMILIES, RULES, SECTIONS
from tools.rule_pages import FOLDER, published_texts

ROOT = Path(__file__).parents[2]
RULE_FILES = ROOT / "devplan" / "rules"
SENTENCES = ("What it does", "Why it breaks", "Limits")


@pytest.mark.parametrize("path, text", published_texts().items())
def test_pages_are_not_stale(path, text):
    made = (ROOT / path).read_text(encoding="utf-8")
    assert made == text, f"{path} is stale; run make pages"


def test_no_page_is_left_over():
    made = {f"{FOLDER}/{path.name}" for path in (ROOT / FOLDER).iterdir()}
    assert made == set(published_texts())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_docstring_is_a_page(rule):
    assert tuple(rule.sections) == SECTIONS
    assert all(text.strip() for text in rule.sections.values())
    assert re.fullmatch(r"[A-Z].*\.", rule.doc.partition("\n")[0])
    for heading in SENTENCES:
        assert rule.sections[heading].rstrip().endswith((".", ")")), heading


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_codes_and_severities(rule):
    assert re.fullmatch(r"DP\d\d\d", rule.code)
    assert rule.code[:3] in FAMILIES
    assert isinstance(rule.severity, Severity)
    # [limits] of the check are no fault of the map: they count with --strict at most.
    assert rule.severity is not Severity.ERROR or not rule.code.startswith("DP9")


def test_table_is_sorted_and_complete():
    assert list(RULES) == sorted(RULES)
    names = [rule.name for rule in RULES.values()]
    rules = [p for p in RULE_FILES.glob("*.py") if re.search("^SEVERITY = ", p.read_text(), re.M)]
    files = {path.stem.replace("_", "-") for path in rules}
    assert len(set(names)) == len(names)
    assert files == set(names)


def test_codes_in_sentences_exist():
    for rule in RULES.values():
        assert set(re.findall(r"DP\d\d\d", rule.doc)) <= set(RULES), rule.code


def test_a_rule_yields_its_own_code_alone():
    for path in RULE_FILES.glob("*.py"):
        codes = set(re.findall(r'code="(DP\d\d\d)"', path.read_text()))
        rule = next((r for r in RULES.values() if r.name == path.stem.replace("_", "-")), None)
        if rule is not None:
            assert codes == {rule.code}, path.name


def test_checklist_is_short():
    index = published_texts()[f"{FOLDER}/README.md"]
    steps = re.findall(r"^(\d)\. ", index.partition("## Add a rule")[2], re.MULTILINE)
    assert steps == [str(number) for number in range(1, len(steps) + 1)]
    assert 3 <= len(steps) <= 6


def test_rules_need_no_torch():
    code = (
        "import sys, devplan.rules.table, devplan.report.explanation, devplan.cli.precedence;"
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
