"""Every case of ``cases/``: the broken map triggers its rule, the clean one does not.

``expected.txt`` is what a person reads of the rule's findings.  To renew it after a wanted change::

    DEVPLAN_OVERWRITE=1 python -m pytest tests/checks/test_cases.py
    git diff tests/checks/cases
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from devplan.checker.results import result_of
from devplan.core.device_map import device_map_of
from devplan.core.findings import CheckResult
from devplan.report.findings.text import finding_lines
from devplan.report.terminal import Terminal
from devplan.rules.table import RULES
from tests.checks.case import CASES, Case

PARAMETERS = [pytest.param(Case(folder=folder), id=folder.name) for folder in CASES]


@pytest.mark.parametrize("case", PARAMETERS)
def test_broken_map_is_found(case):
    result = result_of(case.subject("broken"))
    text, path = shown(result, case.code), case.folder / "expected.txt"
    if os.environ.get("DEVPLAN_OVERWRITE"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert case.code in {d.code for d in result.findings}
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("case", PARAMETERS)
def test_clean_map_is_silent(case):
    result = result_of(case.subject("clean"))
    found = [d.message for d in result.findings if d.code == case.code]
    assert found == []


@pytest.mark.parametrize("case", [p for p in PARAMETERS if p.id < "DP3"])
def test_repair_repairs(case):
    """What is found without a run is gone once the changes of the findings are made."""
    subject = case.subject("broken")
    found = [d for d in result_of(subject).findings if d.code == case.code]
    changes = {key: device for d in found for key, device in d.fix.changed_entries.items()}
    dropped = {key for d in found for key in d.fix.dropped_entries} - set(changes)
    repairable = {d.module for d in found if d.fix.changed_entries or d.fix.dropped_entries}
    repaired = {**subject.device_map, **changes}
    given = device_map_of({key: d for key, d in repaired.items() if key not in dropped})
    left = result_of(replace(subject, map=given)).findings
    assert not repairable & {d.module for d in left if d.code == case.code}


def test_every_rule_has_a_case():
    assert set(RULES) == {Case(folder=folder).code for folder in CASES}


def shown(result: CheckResult, code: str) -> str:
    """The findings of one rule in full, and the codes of the others."""
    own = [d for d in result.findings if d.code == code]
    others = sorted({d.code for d in result.findings} - {code})
    parts = ["\n".join(finding_lines(each, result, Terminal())) for each in own]
    return "\n\n".join([*parts, f"also: {', '.join(others) or 'nothing'}"]) + "\n"
