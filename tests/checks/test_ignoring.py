"""Findings that the user accepts: by code, by baseline; and strictness."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest

from devplan.checker.accepted import (
    apply_baseline,
    baseline_text,
    checked_ignores,
    fingerprint,
    ignore_codes,
    parse_ignores,
    read_baseline,
)
from devplan.checker.results import strictly
from devplan.core.device_map import Entry
from devplan.core.errors import InputError
from devplan.core.findings import CheckResult, Finding, OperandFact, Severity, SourceLine

MISMATCH = Finding(
    code="DP301",
    severity=Severity.ERROR,
    message="mixes",
    module="model",
    op="aten.index.Tensor",
    source=SourceLine(file="transformers/a.py", line=10, function="f", text=""),
    entry=Entry(key="model", device="cuda:1", file="maps/a.yaml", line=4),
)
INDEX = OperandFact(argument="indices[0]", device="cuda:1", shape=(3,), dtype="int64", num_bytes=24)
EMBEDDING = replace(MISMATCH, code="DP205", severity=Severity.WARNING, op=None, source=None)
NOTE = Finding(code="DP901", severity=Severity.NOTE, message="nothing was run")
RESULT = CheckResult(
    map_name="maps/a.yaml",
    model="m",
    class_name="M",
    findings=(MISMATCH, EMBEDDING, NOTE),
)


def test_codes_with_reasons():
    result = ignore_codes(RESULT, parse_ignores(["DP205=new releases cope = fine"]))
    assert [d.code for d in result.findings] == ["DP301", "DP901"]
    assert [d.ignored_because for d in result.ignored] == ["new releases cope = fine"]


@pytest.mark.parametrize("text", ["DP205", "DP205=", "DP205= "])
def test_a_reason_is_required(text):
    with pytest.raises(InputError, match="gives no reason; write DP205=reason"):
        parse_ignores([text])


def test_unknown_code():
    with pytest.raises(InputError, match=r"devplan\.yaml: no rule has the code 'DP206x'"):
        checked_ignores({"DP206x": "why"}, "devplan.yaml")


def test_strict_makes_warnings_findings():
    lenient = replace(RESULT, findings=(EMBEDDING, NOTE))
    assert lenient.is_clean
    assert not strictly(lenient).is_clean
    assert [d.severity for d in strictly(lenient).findings] == [Severity.ERROR, Severity.NOTE]


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
        {"entry": replace(MISMATCH.entry, key="lm_head")},
        {"source": replace(MISMATCH.source, file="transformers/b.py")},
        {"source": replace(MISMATCH.source, function="g")},
        {"source": replace(MISMATCH.source, text="y = a[i]")},
        {"tensors": (INDEX,)},
    ],
)
def test_fingerprint_tells_findings_apart(change):
    assert fingerprint(replace(MISMATCH, **change)) != fingerprint(MISMATCH)


def test_baseline_round_trip(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text([RESULT], "."))
    (result,) = apply_baseline([RESULT], read_baseline(path), ".")
    assert [d.code for d in result.findings] == ["DP901"]
    assert {d.code for d in result.ignored} == {"DP301", "DP205"}
    assert result.is_clean
    added = replace(RESULT, findings=(replace(MISMATCH, module="lm_head"),))
    assert not apply_baseline([added], read_baseline(path), ".")[0].is_clean


def test_a_baseline_accepts_as_many_alike_as_it_holds(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text([RESULT], "."))
    twice = replace(RESULT, findings=(MISMATCH, replace(MISMATCH, message="again")))
    (result,) = apply_baseline([twice], read_baseline(path), ".")
    assert [d.message for d in result.findings] == ["again"]
    path.write_text(baseline_text([twice], "."))
    assert apply_baseline([twice], read_baseline(path), ".")[0].is_clean
    first, second = apply_baseline([RESULT, twice], read_baseline(path), ".")
    assert (len(first.errors), len(second.errors)) == (0, 1)


OTHER = replace(
    MISMATCH, message="another", source=replace(MISMATCH.source, function="g", text="y = a[j]")
)


def test_the_same_op_in_another_function_is_no_known_finding(tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(baseline_text([RESULT], "."))
    both = replace(RESULT, findings=(MISMATCH, OTHER))
    (result,) = apply_baseline([both], read_baseline(path), ".")
    assert result.errors == (OTHER,)


def first_version(tmp_path):
    """A baseline of `MISMATCH` as the first version wrote it."""
    path = tmp_path / "baseline.json"
    item = {"code": "DP301", "map": "maps/a.yaml", "module": "model", "message": "mixes"}
    text = "DP301\0model\0aten.index.Tensor\0maps/a.yaml\0transformers/a.py"
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    path.write_text(json.dumps({"version": 1, "findings": {key: item}}))
    return read_baseline(path)


def test_a_baseline_of_the_first_version_is_read_where_it_is_clear(tmp_path):
    known = first_version(tmp_path)
    assert known.is_old
    reworded = replace(RESULT, findings=(replace(MISMATCH, message="other numbers"),))
    assert apply_baseline([reworded], known, ".")[0].is_clean
    both = replace(RESULT, findings=(OTHER, MISMATCH))
    assert apply_baseline([both], known, ".")[0].errors == (OTHER,)


def test_baseline_does_not_depend_on_the_current_folder(tmp_path, monkeypatch):
    absolute = replace(MISMATCH, entry=replace(MISMATCH.entry, file=str(tmp_path / "maps/a.yaml")))
    there = fingerprint(absolute, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert fingerprint(MISMATCH, ".") == there


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"version": 9, "findings": {}}',
        '{"version": 2, "findings": 3}',
        '{"version": 2, "findings": {"a": 1}}',
        '{"version": 2, "findings": {"a": {"count": 0}}}',
        '{"version": 2, "findings": {"a": {"count": true}}}',
        '{"version": 1, "findings": {"a": []}}',
        '{"version": {}, "findings": {}}',
    ],
)
def test_no_baseline(tmp_path, text):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is not a baseline of devplan"):
        read_baseline(path)


def test_baseline_is_missing(tmp_path):
    with pytest.raises(InputError, match="--write-baseline"):
        read_baseline(tmp_path / "none.json")


def test_baseline_is_sorted_and_readable():
    content = json.loads(baseline_text([RESULT, RESULT], "."))
    assert [item["code"] for item in content["findings"].values()] == ["DP205", "DP301"]
    assert all(item["map"] == "maps/a.yaml" for item in content["findings"].values())
    assert all(item["count"] == 2 for item in content["findings"].values())
