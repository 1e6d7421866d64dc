"""The sweep's own code, on invented rows: what a row comes to, what is tried next, the page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from devplan.checker.results import result_of
from devplan.core.findings import RunRecord, SourceLine
from tests.checks.test_remedies import EVEN, FAR, NEAR, event, operand, subject
from tools.sweep.__main__ import PAGE, _facts
from tools.sweep.attempt import Task, attempt, findings_of
from tools.sweep.gather import FEW_LAYERS, Store, Worker, next_task
from tools.sweep.readings import Catalogue, Reading, load_readings
from tools.sweep.row import FoundMismatch, MapRow, Outcome, Row, Stage, row_of
from tools.sweep.table import UNREAD, page_of, problems, share_that_ran

FILE = "transformers/models/invented/modeling_invented.py"
FINDING = FoundMismatch(
    file=FILE,
    line=7,
    op="aten.add.Tensor",
    code="DP301",
    module="model",
    text="a = b | c",
    message="aten.add.Tensor in model mixes self on cuda:0 and other on cuda:1",
)
READING = Reading(
    verdict="confirmed",
    maps="maps that cut it",
    why="Nothing moves b.",
    keys=((f"{FILE}:7", "aten.add.Tensor"),),
)
TASK = Task(model_type="invented", class_name="Invented")


def row(name: str = "invented", stage: Stage = Stage.RAN, **settings) -> Row:
    return Row(model_type=name, class_name="Invented", stage=stage, **settings)


def ran(name: str, *findings: FoundMismatch) -> Row:
    item = MapRow(name="planned", num_devices=2, phases=("forward",), findings=findings)
    return row(name, maps=(item,))


@pytest.mark.parametrize(
    ("stage", "outcome"),
    [
        (Stage.BUILD, Outcome.NOT_RUNNABLE),
        (Stage.PACKAGE, Outcome.NOT_RUNNABLE),
        (Stage.TIME, Outcome.NOT_RUNNABLE),
        (Stage.RUN, Outcome.NOT_RUNNABLE),
        (Stage.NO_FORWARD, Outcome.NO_FORWARD),
        (Stage.RAN, Outcome.CLEAN),
    ],
)
def test_outcome_follows_from_the_stage(stage, outcome):
    assert row(stage=stage).outcome is outcome


def test_a_finding_counts_only_where_the_run_has_an_end():
    found = ran("invented", FINDING)
    assert found.outcome is Outcome.MISMATCH
    assert row(stage=Stage.RUN, maps=found.maps).outcome is Outcome.NOT_RUNNABLE


def test_every_line_has_its_own_op_though_one_diagnostic_tells_of_all():
    lines = [SourceLine(file="a.py", line=n, function="f", text=f"line {n}") for n in (1, 2)]
    first = replace(event("model", NEAR, FAR), op="aten.div.Tensor", source=lines[0])
    met = (
        first,
        replace(first, op="aten.add.Tensor"),
        replace(first, op="aten.masked_fill.Scalar", source=lines[1]),
        replace(first, phase="decode 1"),
        event("model", NEAR, operand("meta")),  # a weight without its hook: not this sweep's matter
    )
    run = RunRecord(phases=("prefill",), inputs="text", mismatches=met)
    about = replace(subject(EVEN), runs=(run,))
    result = result_of(about)
    assert [one.also_at for one in result.errors if one.code == "DP301"] == [(lines[1],)]
    found = [(one.line, one.op, one.text) for one in findings_of(about, result)]
    assert found == [
        (1, "aten.add.Tensor", "line 1"),
        (1, "aten.div.Tensor", "line 1"),
        (2, "aten.masked_fill.Scalar", "line 2"),
    ]


def test_types_without_forward_are_no_part_of_the_share():
    rows = [ran("a"), ran("b", FINDING), row("c", Stage.INPUTS), row("d", Stage.NO_FORWARD)]
    assert share_that_ran(rows) == pytest.approx(2 / 3)


def test_what_is_tried_next():
    raised = row(stage=Stage.RUN, generated=True)
    single = next_task(TASK, raised)
    assert single.dtype == "float32" and single.run == "auto"
    forward = next_task(single, raised)
    assert forward.dtype == "bfloat16" and forward.run == "forward"
    late = next_task(TASK, row(stage=Stage.TIME))
    assert late.layers == FEW_LAYERS and late.dtype == "bfloat16"
    assert next_task(late, row(stage=Stage.TIME)) is None
    assert next_task(TASK, ran("invented")) is None


def test_rows_survive_the_store_and_old_ones_do_not_count(tmp_path):
    kept = ran("kept", FINDING)
    Store(path=tmp_path / "rows.jsonl", fingerprint="old").add(ran("old"))
    store = Store(path=tmp_path / "rows.jsonl", fingerprint="new")
    store.add(kept)
    assert store.rows() == {"kept": kept}
    assert set(store.rows(any_fingerprint=True)) == {"old", "kept"}
    assert row_of(json.loads(json.dumps(kept.to_json()))) == kept


def test_problems_name_what_is_left_to_do():
    rows = {"a": ran("a", FINDING)}
    readings = Catalogue(transformers="1", readings=(READING,))
    assert problems(rows, readings) == []
    (unread,) = problems(rows, Catalogue(transformers="1", readings=()))
    assert UNREAD in unread and f"{FILE}:7" in unread
    (stale,) = problems({"a": ran("a")}, readings)
    assert "not found" in stale and f"{FILE}:7" in stale
    few = problems({"a": row("a", Stage.INPUTS), "b": ran("b", FINDING)}, readings)
    assert few == ["50.0% ran, 95% should", "50.0% have no inputs, 1% may"]


def test_page_says_everything_and_is_the_same_in_any_order():
    rows = {
        "b": ran("b", FINDING),
        "a": row("a", Stage.RUN, reason="ValueError: no\nway"),
        "c": row("c", changed=("in float32",), reason="it was so", maps=ran("c").maps),
    }
    readings = Catalogue(transformers="1", readings=(READING,))
    page = page_of(rows, readings, _facts())
    for text in ("confirmed: b", "Nothing moves b.", "maps that cut it", r"a = b \| c"):
        assert text in page
    assert "invented/modeling_invented.py:7" in page and "ValueError: no way" in page
    assert "in float32" in page and "66.7% of the types" in page
    assert page_of(dict(reversed(rows.items())), readings, _facts()) == page
    assert UNREAD in page_of(rows, Catalogue(transformers="1", readings=()), _facts())


def test_docs_hold_every_reading():
    page = PAGE.read_text(encoding="utf-8")
    assert UNREAD not in page
    for reading in load_readings().readings:
        assert reading.why in page
        for place, op in reading.keys:
            line = f"| {place.removeprefix('transformers/models/')} "
            assert any(row.startswith(line) and f"`{op}`" in row for row in page.splitlines()), line


def test_a_real_type_runs():
    found = attempt(Task(model_type="bert", class_name="BertForMaskedLM", layers=2))
    assert found.outcome is Outcome.CLEAN, found.reason
    assert found.changed == ("with 2 layers",)
    assert [item.name for item in found.maps] == ["planned", "in order"]
    assert all(item.num_devices == 2 for item in found.maps)


@pytest.mark.slow
def test_a_late_worker_is_a_row(monkeypatch):
    monkeypatch.setattr("tools.sweep.gather.LIMIT_S", 0.01)
    worker = Worker()
    try:
        late = worker.attempt(Task(model_type="llama", class_name="LlamaForCausalLM"))
    finally:
        worker.stop()
    assert late.stage is Stage.TIME and worker.process is None
