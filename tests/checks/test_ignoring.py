"""Findings that the user accepts: by code, by baseline; and strictness."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from devplan.checks.baseline import apply_baseline, baseline_text, fingerprint, read_baseline
from devplan.checks.ignoring import checked_ignores, ignore_codes, parse_ignores
from devplan.checks.run import strictly
from devplan.errors import InputError
from devplan.findings import CheckResult, Diagnostic, MapEntry, Severity, SourceLine

MISMATCH = Diagnostic(
    code="DP301",
    severity=Severity.ERROR,
    message="mixes",
    module="model",
    op="aten.index.Tensor",
    source=SourceLine(file="transformers/a.py", line=10, function="f", text=""),
    entry=MapEntry(key="model", device="cuda:1", file="maps/a.yaml", line=4),
)
EMBEDDING = replace(MISMATCH, code="DP205", severity=Severity.WARNING, op=None, source=None)
NOTE = Diagnostic(code="DP901", severity=Severity.NOTE, message="nothing was run")
RESULT = CheckResult(
    map_name="maps/a.yaml",
    model="m",
    class_name="M",
    diagnostics=(MISMATCH, EMBEDDING, NOTE),
)


def test_codes_with_reasons():
    result = ignore_codes(RESULT, parse_ignores(["DP205=new releases cope = fine"]))
    assert [d.code for d in result.diagnostics] == ["DP301", "DP901"]
    assert [d.ignored_because for d in result.ignored] == ["new releases cope = fine"]


@pytest.mark.parametrize("text", ["DP205", "DP205=", "DP205= "])
def test_a_reason_is_required(text):
    with pytest.raises(InputError, match="gives no reason; write DP205=reason"):
        parse_ignores([text])


def test_unknown_code():
    with pytest.raises(InputError, match=r"devplan\.yaml: no rule has the code 'DP206x'"):
        checked_ignores({"DP206x": "why"}, "devplan.yaml")


def test_strict_makes_warnings_findings():
    lenient = replace(RESULT, diagnostics=(EMBEDDING, NOTE))
    assert lenient.is_clean()
    assert not strictly(lenient).is_clean()
    assert [d.severity for d in strictly(lenient).diagnostics] == [Severity.ERROR, Severity.NOTE]


def test_fingerprint_survives_edits_above():
    moved = replace(
        MISMATCH,
        message="other numbers",
        entry=replace(MISMATCH.entry, line=40, device="cuda:2"),
        source=replace(MISMATCH.source, line=99),
    )
    assert fingerprint(moved) == fingerprint(MISMATCH)


@pytest.mark.parametrize(
    "change",
    [
        {"code": "DP303"},
        {"module": "model.layers.1"},
        {"op": "aten.add.Tensor"},
        {"entry": replace(MISMATCH.entry, file="maps/b.yaml")},
        {"source": replace(MISMATCH.source, file="transformers/b.py")},
    ],
)
def test_fingerprint_tells_findings_apart(change):
    assert fingerprint(replace(MISMATCH, **change)) != fingerprint(MISMATCH)


def test_baseline_round_trip(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text([RESULT], "."))
    result = apply_baseline(RESULT, read_baseline(path), ".")
    assert [d.code for d in result.diagnostics] == ["DP901"]
    assert {d.code for d in result.ignored} == {"DP301", "DP205"}
    assert result.is_clean()
    added = replace(RESULT, diagnostics=(replace(MISMATCH, module="lm_head"),))
    assert not apply_baseline(added, read_baseline(path), ".").is_clean()


def test_baseline_does_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    absolute = replace(MISMATCH, entry=replace(MISMATCH.entry, file=str(tmp_path / "maps/a.yaml")))
    there = fingerprint(absolute, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert fingerprint(MISMATCH, ".") == there


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 9, "findings": {}}'])
def test_no_baseline(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no baseline of devplan"):
        read_baseline(path)


def test_baseline_is_missing(tmp_path):
    with pytest.raises(InputError, match="--write-baseline"):
        read_baseline(tmp_path / "none.json")


def test_baseline_is_sorted_and_readable():
    content = json.loads(baseline_text([RESULT, RESULT], "."))
    assert [item["code"] for item in content["findings"].values()] == ["DP205", "DP301"]
    assert all(item["map"] == "maps/a.yaml" for item in content["findings"].values())
