"""The report of `devplan check` in every format.

The whole reports are compared with ``golden_check/``; to renew them::

    DEVPLAN_OVERWRITE=1 python -m pytest tests/report/test_findings.py
    git diff tests/report/golden_check
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from devplan.core.errors import InputError
from devplan.core.findings import Severity
from devplan.report.findings import FORMATS, check_report
from devplan.report.terminal import Terminal
from devplan.rules.table import RULES
from tests.report.example_findings import CLEAN, EMBEDDING, FOUND, MAP, MISMATCH, VERSIONS

GOLDEN = Path(__file__).parent / "golden_check"
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PIPE = Terminal()

# SARIF lists all rules with their pages, which have a test of their own: its golden file would
# change with every word there.
REPORTS = {
    "text": ("text", PIPE, [FOUND, CLEAN]),
    "text_colours": ("text", Terminal(colours=True), [FOUND]),
    "text_ascii": ("text", Terminal(unicode=False), [CLEAN]),
    "json": ("json", PIPE, [FOUND, CLEAN]),
    "github": ("github", PIPE, [FOUND, CLEAN]),
}


@pytest.mark.parametrize("name", REPORTS)
def test_golden(name):
    form, terminal, results = REPORTS[name]
    text, path = check_report(results, form, terminal), GOLDEN / f"{name}.txt"
    if os.environ.get("DEVPLAN_OVERWRITE"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert path.read_text(encoding="utf-8") == text


def test_no_golden_file_is_forgotten():
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(REPORTS)


def test_unknown_format():
    with pytest.raises(InputError, match=r"--format 'sarfi' is none of .*; did you mean sarif"):
        check_report([FOUND], "sarfi", PIPE)


# ----------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "fact",
    [
        "error DP301 device-mismatch",
        f"{MAP}:4: model.language_model: 1",
        "PyTorch: indices should be either on cpu or on the same device as the indexed tensor",
        "transformers/models/qwen2_vl/modeling_qwen2_vl.py:1489 in get_rope_index",
        "input_ids = input_ids[attention_mask[i] == 1]",
        "indices[0] cuda:1 0-dim bool 1 B",
        "+ model.language_model.embed_tokens: 0 - lm_head: 1 + lm_head: 0",
        "ran prefill, decode 1 with text of 64 tokens, 1 image of 224 x 448; batch 1: 35,000 ops",
        "1 error, 1 warning, 1 note; 1 ignored; `devplan explain DP301` says more",
    ],
)
def test_text_says(fact):
    assert fact in " ".join(check_report([FOUND], "text", PIPE).split())


def test_text_says_that_a_repair_was_not_tried_where_there_is_one():
    untried = "The changed map was not run"
    assert untried in check_report([FOUND], "text", PIPE)
    without = replace(
        FOUND, findings=(replace(MISMATCH, fix=replace(MISMATCH.fix, changed_entries={})),)
    )
    assert untried not in check_report([without], "text", PIPE)
    assert untried not in check_report([CLEAN], "text", PIPE)


def test_text_of_a_clean_map():
    text = check_report([CLEAN], "text", PIPE)
    assert text.rstrip().endswith("clean")
    assert "nothing found" in check_report([replace(CLEAN, runs=())], "text", PIPE)


def test_text_shortens_long_changes():
    many = {f"model.layers.{index}": "cuda:1" for index in range(30)}
    result = replace(
        FOUND, findings=(replace(MISMATCH, fix=replace(MISMATCH.fix, changed_entries=many)),)
    )
    text = check_report([result], "text", PIPE)
    assert text.count("\n    + model.layers.") == 8
    assert "22 more lines" in text


# ----------------------------------------------------------------------------------------- json


def test_json_keys_are_documented():
    documented = (ROOT / "docs" / "check.md").read_text()
    for key in keys_of(json.loads(check_report([FOUND], "json", PIPE))):
        assert f"`{key}`" in documented, f"docs/check.md does not say what {key} is"


def keys_of(value) -> set[str]:
    free = {"versions", "changed_entries"}
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item)}
    if not isinstance(value, dict):
        return set()
    inner = {key for name, item in value.items() if name not in free for key in keys_of(item)}
    return inner | set(value)


def test_json_status():
    assert json.loads(check_report([CLEAN], "json", PIPE))["status"] == "clean"
    assert json.loads(check_report([CLEAN, FOUND], "json", PIPE))["status"] == "findings"


# ---------------------------------------------------------------------------------------- sarif


def sarif(*results):
    return json.loads(check_report(results, "sarif", PIPE))


def test_sarif_structure():
    schema = json.loads((HERE / "sarif-2.1.0-parts.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(sarif(FOUND, CLEAN), schema)


def test_sarif_rules():
    rules = sarif(FOUND)["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(RULES)
    for rule in rules:
        assert "What it does" in rule["help"]["text"]
        assert "**Use instead**" in rule["help"]["markdown"]


def test_sarif_results_point_at_their_rules_and_lines():
    run = sarif(FOUND)["runs"][0]
    mismatch, embedding, versions, tied = run["results"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    assert [r["level"] for r in run["results"]] == ["error", "warning", "note", "error"]
    place = mismatch["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "maps/a%20map%2C%2050%25.yaml"
    assert place["region"]["startLine"] == 4
    code = mismatch["relatedLocations"][0]["physicalLocation"]
    assert code["artifactLocation"] == {
        "uri": "transformers/models/qwen2_vl/modeling_qwen2_vl.py",
        "uriBaseId": "SITEPACKAGES",
    }
    assert code["region"]["startLine"] == 1489
    assert versions["locations"][0]["physicalLocation"]["region"]["startLine"] == 1
    assert tied["suppressions"][0]["justification"] == "the head is trained apart"
    assert "suppressions" not in embedding


def test_sarif_uris_are_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, outside = tmp_path / "maps" / "m.yaml", tmp_path.parent / "m.yaml"
    uris = []
    for file in (inside, outside):
        entry = replace(EMBEDDING.entry, file=str(file))
        found = replace(FOUND, findings=(replace(EMBEDDING, entry=entry),), ignored=())
        location = sarif(found)["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
        uris.append(location["artifactLocation"])
    assert uris[0] == {"uri": "maps/m.yaml", "uriBaseId": "SRCROOT"}
    assert uris[1] == {"uri": outside.as_uri()}


# ---------------------------------------------------------------------------------- github, junit


def test_github_escapes():
    lines = check_report([FOUND], "github", PIPE).splitlines()
    assert len(lines) == len(FOUND.findings)
    pattern = r"::(error|warning|notice) file=maps/a map%2C 50%25\.yaml,line=\d+,title=[^:,]+::.+"
    for line in lines:
        assert re.fullmatch(pattern, line), line
    assert lines[0].startswith("::error file=maps/a map%2C 50%25.yaml,line=4,title=DP301 device-")
    assert "%0APyTorch: indices" in lines[0]


def test_github_says_nothing_of_a_clean_map():
    assert check_report([CLEAN], "github", PIPE) == ""


def test_junit_is_xml_that_counts():
    root = ElementTree.fromstring(check_report([FOUND, CLEAN], "junit", PIPE))
    found, clean = root.findall("testsuite")
    assert found.get("name") == MAP
    assert int(found.get("tests")) == len(found.findall("testcase")) == len(RULES)
    assert [int(found.get(key)) for key in ("failures", "errors", "skipped")] == [1, 0, 1]
    assert len(found.findall("testcase/failure")) == 1
    assert found.find("testcase/skipped").get("message") == "the head is trained apart"
    assert clean.findall("testcase/*") == []


def test_junit_replaces_what_xml_forbids():
    text = check_report([FOUND], "junit", PIPE)
    assert "\x1b" in VERSIONS.message and "\x1b" not in text
    outputs = [e.text for e in ElementTree.fromstring(text).iter("system-out")]
    assert any(r"<other> & \x1b[1mthings" in " ".join(output.split()) for output in outputs)


@pytest.mark.parametrize("form", FORMATS)
def test_strict_results_read_the_same(form):
    strict = replace(FOUND, findings=(replace(EMBEDDING, severity=Severity.ERROR),))
    assert "DP205" in check_report([strict], form, PIPE)
