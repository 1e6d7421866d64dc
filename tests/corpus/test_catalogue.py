"""The catalogue of bugs is well formed, honest, and in step with what was seen and with the docs.

Nothing here installs or fetches anything; `make corpus` tries the bugs themselves.
"""

from __future__ import annotations

import pytest

from tools.corpus import drivers, environments, running
from tools.corpus.document import FILE, document_text
from tools.corpus.results import read_results
from tools.corpus.worker import check_bug

BUGS = running.catalogue()
RESULTS = read_results()
NEEDED = {"id", "model", "map", "buggy", "fixed", "file", "line", "what", "sources"}
ALLOWED = NEEDED | {
    *("run", "main", "gpus", "needs", "fixed_map", "also", "reason", "untried"),
    *("package", "with_transformers"),
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["id"])
def test_a_bug_is_well_formed(bug):
    assert set(bug) >= NEEDED and set(bug) <= ALLOWED
    assert all(line > 0 for line in running.lines_of(bug))
    assert bug["sources"] and bug["buggy"] != bug["fixed"]
    releases = environments.known_releases()
    if bug.get("package", "transformers") == "transformers":
        assert {bug["buggy"], bug["fixed"]} <= set(releases)
    else:
        assert bug["with_transformers"] in releases
    named = [*bug.get("run", {}).values(), bug["model"].get("factory", "")]
    for name in (str(value).rpartition(":")[2] for value in named if "drivers" in str(value)):
        assert callable(getattr(drivers, name))


def test_ids_are_unique():
    assert len({bug["id"] for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug["id"])
def test_caught_or_with_a_reason(bug):
    seen = RESULTS.get(bug["id"], {"caught": False})
    assert seen["caught"] != ("reason" in bug)
    if seen["caught"]:
        assert seen["at"] in {f"{bug['file']}:{line}" for line in running.lines_of(bug)}
        assert set(seen["fixed_findings"]) == {entry["at"] for entry in bug.get("also", ())}


def test_enough_are_caught():
    caught = [seen for seen in RESULTS.values() if seen["caught"]]
    assert len(caught) >= 25
    assert len({seen["op"] for seen in caught}) >= 12


def test_the_page_is_in_step():
    assert FILE.read_text(encoding="utf-8") == document_text()


def test_findings_elsewhere_do_not_count():
    bug = {"file": "model.py", "line": [3, 4]}
    found = {"at": "model.py:4", "op": "aten.add.Tensor", "code": "DP301", "line": "a + b"}
    elsewhere = {**found, "at": "model.py:5", "message": ""}
    buggy = running.Outcome(errors=(found,), phases=("forward",))
    clean = running.Outcome(phases=("forward",))
    assert running.record(bug, buggy, clean)["caught"]
    assert not running.record(bug, running.Outcome(errors=(elsewhere,)), clean)["caught"]
    assert not running.record(bug, buggy, running.Outcome(failure="out of time"))["caught"]
    other = running.Outcome(errors=(elsewhere,), phases=("forward",))
    assert not running.record(bug, buggy, other)["caught"]
    confirmed = {**bug, "also": [{"at": "model.py:5", "why": "read"}]}
    assert running.record(confirmed, buggy, other)["caught"]


# -------------------------------------------------------------------------------- environments


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv(environments.CACHE_VARIABLE, str(tmp_path))
    installed = []

    def install(pins, target):
        installed.append(pins)
        target.mkdir()

    monkeypatch.setattr(environments, "_install", install)
    pins = environments.pins_of("4.48.3", extra=("timm==1.0.15",))
    first, second = environments.environment(pins), environments.environment(pins)
    assert first == second and first.is_dir() and len(installed) == 1
    assert first.name == "site-packages" and tmp_path in first.parents
    assert environments.variables(first)["PYTHONPATH"].startswith(str(first))
    assert [path.name for path in tmp_path.iterdir()] == [first.parent.name]


def test_a_broken_installation_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(environments.CACHE_VARIABLE, str(tmp_path))

    def install(pins, target):
        target.mkdir()
        raise environments.NoEnvironment("no such release")

    monkeypatch.setattr(environments, "_install", install)
    outcome = running.run_in({"id": "x"}, "4.48.3")
    assert outcome.failure == "no such release" and not outcome.ran
    assert list(tmp_path.iterdir()) == []


def test_one_check_here():
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
    config = {**sizes, "num_hidden_layers": 2, "vocab_size": 64}
    split = {"model.layers.0": 0, "model.layers.1": 1, "model.norm": 1, "model.rotary_emb": 0}
    found = check_bug(
        {
            "model": {"type": "llama", "class": "LlamaForCausalLM", "config": config},
            "map": {"model.embed_tokens": 0, **split, "lm_head": 1},
            "run": {"tokens": 8, "generation": {"max_new_tokens": 2}},
        }
    )
    assert found["errors"] == [] and found["phases"] == ["prefill", "decode 1"]
