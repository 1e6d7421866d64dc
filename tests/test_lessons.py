"""What one run teaches, on plans and runs that are written down by hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.core.findings import (
    BlockActivation,
    DevicePeak,
    Finding,
    Fix,
    MismatchEvent,
    OperandFact,
    RunRecord,
    Severity,
    SourceLine,
)
from devplan.core.types import ActivationGrowth
from devplan.core.workload import Workload
from devplan.workflows.constraints import Learnt, learn, learn_from_warnings, met_in
from devplan.workflows.plan_runner import card_peaks, phase_peaks
from tests.planning.strategies import layer, machine, plan, text_graph

WORKLOAD = Workload(context=100, batch=2)
GROWTH = ActivationGrowth(samples=((50, 4), (100, 6), (200, 10)), batch=1)
"""6 bytes a sequence at 100 tokens: 12 at the workload."""
LAYERS = [replace(layer(index, 20), activation=GROWTH) for index in range(4)]
GRAPH = replace(text_graph(LAYERS), between=GROWTH)
CARDS = machine(90, 60)
ERROR = Finding(code="DP301", severity=Severity.ERROR, message="apart")
FIRST, LAST = LAYERS[0].name, LAYERS[3].name


@pytest.fixture(scope="module")
def planned():
    found = plan(GRAPH, CARDS, WORKLOAD)
    assert [load.activation_bytes for load in found.loads] == [12, 12]
    assert found.placement[FIRST] == "cuda:0" and found.placement[LAST] == "cuda:1"
    return found


def subject():
    """What lessons ask of a subject: the workload, whose code it is, and where it runs."""
    structure = SimpleNamespace(block_of=lambda module: module or None, tensors={})
    return SimpleNamespace(
        workload=WORKLOAD,
        main_device="cuda:0",
        structure=structure,
        runs_at=lambda module: "cuda:0",
        devices_inside=lambda module: {"cuda:0"},
    )


def record(*activations, peaks=(), mismatches=(), phases=("prefill", "decode 1")) -> RunRecord:
    return RunRecord(
        phases=phases,
        inputs="text",
        activations=tuple(
            BlockActivation(block=block, phase=phase, device=device, num_bytes=size)
            for block, phase, device, size in activations
        ),
        peaks=peaks,
        mismatches=mismatches,
    )


def peak(device: str, rest: int, weights: int = 30, cache: int = 5, module: str = FIRST):
    return DevicePeak(
        device=device,
        weight_bytes=weights,
        cache_bytes=cache,
        peak_bytes=weights + cache + rest,
        module=module,
        phase="prefill",
    )


def taught(found, run, errors=(), learnt=None):
    learnt = learnt or Learnt(graph=GRAPH, pins={})
    about = subject()
    about.runs = () if run is None else (run,)
    return learn(learnt, found, about, errors)


def needs(graph, name: str) -> int:
    growth = (
        graph.between if not name else next(b.activation for b in graph.blocks if b.name == name)
    )
    return growth.bytes_at(WORKLOAD.tokens, WORKLOAD.batch)


# ------------------------------------------------------------------------------------ activations


def room(found, device: str) -> int:
    load = next(load for load in found.loads if load.device == device)
    return load.activation_bytes + load.headroom_bytes


def test_nothing_is_learnt_of_no_run_or_of_one_that_fits_to_the_byte(planned):
    assert taught(planned, None) is None
    full = [peak(device, room(planned, device)) for device in ("cuda:0", "cuda:1")]
    assert taught(planned, record(peaks=tuple(full))) is None
    assert taught(planned, record(peaks=(peak("cpu", 10**9),))) is None


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_one_byte_too_many_is_learnt_of_the_block_that_needs_most(planned, device):
    more = room(planned, device) + 1
    block = {"cuda:0": FIRST, "cuda:1": LAST}[device]
    other = {"cuda:0": LAST, "cuda:1": FIRST}[device]
    run = record(
        (block, "prefill", device, 18),
        (block, "decode 1", device, 14),
        (LAYERS[1].name, "prefill", device, 16),
        (other, "prefill", other, 10**6),
        peaks=(peak(device, more),),
    )
    found = taught(planned, run)
    assert needs(found.graph, block) == more
    assert needs(found.graph, LAYERS[1].name) == 16
    assert needs(found.graph, other) == needs(found.graph, "") == 12
    (constraint,) = found.constraints
    assert constraint.change == f"{device} keeps {more} B for activations"
    assert constraint.finding == f"12 B were counted; at the fullest moment, {FIRST} (prefill)"
    assert found.pins == {}


def test_less_than_was_counted_changes_nothing_of_a_block(planned):
    more = room(planned, "cuda:0") + 2
    run = record(
        (FIRST, "prefill", "cuda:0", 40),
        (LAYERS[1].name, "prefill", "cuda:0", 11),
        (LAYERS[2].name, "prefill", "cuda:0", 12),
        peaks=(peak("cuda:0", more),),
    )
    graph = taught(planned, run).graph
    assert [b.activation for b in graph.blocks if b.name == LAYERS[1].name] == [GROWTH]
    assert [b.activation for b in graph.blocks if b.name == LAYERS[2].name] == [GROWTH]


@pytest.mark.parametrize("noted", [True, False])
def test_what_lies_between_the_blocks_is_learnt_of_them_alone(planned, noted):
    """Where the code between the blocks needs most, and where no block needed anything."""
    more = room(planned, "cuda:0") + 2
    seen = [("", "prefill", "cuda:0", 35), (FIRST, "prefill", "cuda:0", 8)] if noted else []
    run = record(*seen, peaks=(peak("cuda:0", more, module=""),))
    found = taught(planned, run)
    assert needs(found.graph, "") == more
    assert found.graph.blocks == GRAPH.blocks
    assert "between the blocks (prefill)" in found.constraints[0].finding


def test_a_card_that_has_room_keeps_none_from_teaching(planned):
    """Of a device that the plan does not fill, of a card with room, and of one without."""
    more = room(planned, "cuda:1") + 1
    fits = (peak("cpu", 10**9), peak("cuda:0", room(planned, "cuda:0")))
    run = record((LAST, "prefill", "cuda:1", 20), peaks=(*fits, peak("cuda:1", more)))
    assert needs(taught(planned, run).graph, LAST) == more


def test_a_block_that_needs_more_than_the_fullest_moment_keeps_its_need(planned):
    """A peak is counted without what is freed before; the block's own need is not lowered."""
    more = room(planned, "cuda:0") + 2
    run = record((FIRST, "prefill", "cuda:0", more + 5), peaks=(peak("cuda:0", more),))
    assert needs(taught(planned, run).graph, FIRST) == more + 5


def test_each_card_teaches_its_own(planned):
    more = {device: room(planned, device) + 2 for device in ("cuda:0", "cuda:1")}
    run = record(
        (FIRST, "prefill", "cuda:0", 20),
        (LAST, "prefill", "cuda:1", 20),
        peaks=tuple(peak(device, size) for device, size in more.items()),
    )
    found = taught(planned, run)
    assert needs(found.graph, FIRST) == more["cuda:0"]
    assert needs(found.graph, LAST) == more["cuda:1"]
    assert len(found.constraints) == 2


@given(more=st.integers(1, 10**6), batch=st.integers(1, 5), tokens=st.integers(1, 400))
def test_what_is_learnt_holds_at_every_context_in_proportion(more, batch, tokens):
    workload = Workload(context=100, batch=batch)
    found = plan(GRAPH, machine(200, 200), workload)
    rest = room(found, "cuda:0") + more
    about = subject()
    about.workload = workload
    about.runs = (record((FIRST, "prefill", "cuda:0", 1), peaks=(peak("cuda:0", rest),)),)
    learnt = learn(Learnt(graph=GRAPH, pins={}), found, about, ())
    (growth,) = (block.activation for block in learnt.graph.blocks if block.name == FIRST)
    assert growth.bytes_at(100, batch) == rest
    before = GROWTH.bytes_at(tokens, batch)
    factor = rest / GROWTH.bytes_at(100, batch)
    assert before <= growth.bytes_at(tokens, batch)
    assert abs(growth.bytes_at(tokens, batch) - factor * before) <= factor * batch + 2


def test_blocks_of_unknown_need_are_learnt_at_the_workload(planned):
    more = room(planned, "cuda:0") + 3
    run = record(("model.embed_tokens", "prefill", "cuda:0", 9), peaks=(peak("cuda:0", more),))
    found = taught(planned, run)
    (growth,) = (b.activation for b in found.graph.blocks if b.name == "model.embed_tokens")
    assert growth == ActivationGrowth(samples=((100, more),), batch=2)


# ------------------------------------------------------------------------------------- mismatches


def operand(device: str, *makers: str) -> OperandFact:
    return OperandFact(
        argument="self", device=device, shape=(1,), dtype="float32", num_bytes=4, makers=makers
    )


def mismatch(*operands: OperandFact, module: str = "") -> MismatchEvent:
    return MismatchEvent(
        op="aten.add.Tensor",
        message="two devices",
        rule="same",
        module=module,
        source=None,
        operands=operands,
        phase="prefill",
    )


@pytest.fixture
def entries(monkeypatch):
    """What would repair a mismatch, as the test says."""
    found: dict[str, str] = {}
    monkeypatch.setattr(
        "devplan.workflows.constraints.entries_that_meet", lambda event, subject: found
    )
    return found


APART = mismatch(operand("cuda:0", FIRST), operand("cuda:1", LAST))


def test_blocks_that_met_belong_together(planned, entries):
    found = taught(planned, record(mismatches=(APART,)), (ERROR,))
    assert found.graph.tied == ((FIRST, LAST),)
    (constraint,) = found.constraints
    assert constraint.change == f"{FIRST} and {LAST} on one device"
    assert constraint.finding == "aten.add.Tensor at : two devices"
    assert found.pins == {} and found.graph.blocks == GRAPH.blocks


def test_a_finding_names_the_line_where_there_is_one_and_else_the_module(planned, entries):
    line = SourceLine(file="a.py", line=7, function="forward", text="a + b")
    for event, where in (
        (replace(APART, source=line), str(line)),
        (replace(APART, module=FIRST), FIRST),
    ):
        found = taught(planned, record(mismatches=(event,)), (ERROR,))
        assert found.constraints[0].finding == f"aten.add.Tensor at {where}: two devices"


def test_without_an_error_a_mismatch_teaches_nothing(planned, entries):
    assert taught(planned, record(mismatches=(APART,))) is None


@pytest.mark.parametrize(
    "event",
    [
        mismatch(operand("cuda:0", FIRST), operand("cuda:1", FIRST)),
        mismatch(operand("cuda:0"), operand("cuda:1", LAST)),
        mismatch(operand("cuda:0", "no.block"), operand("cuda:1", LAST)),
    ],
)
def test_one_block_is_not_tied_to_itself_or_to_nothing(planned, entries, event):
    assert taught(planned, record(mismatches=(event,)), (ERROR,)) is None


def test_inside_a_block_only_the_odd_one_counts(planned, entries):
    """Code of the first layer, on cuda:0: what lies there is in place, the last layer's is not."""
    middle = LAYERS[1].name
    event = mismatch(operand("cuda:0", middle), operand("cuda:1", LAST), module=FIRST)
    found = taught(planned, record(mismatches=(event,)), (ERROR,))
    assert found.graph.tied == ((FIRST, LAST),)
    assert met_in(subject(), record(mismatches=(event,)), GRAPH) == {FIRST, LAST}
    between = replace(event, module="")
    assert met_in(subject(), record(mismatches=(between,)), GRAPH) == {middle, LAST}
    assert met_in(subject(), None, GRAPH) == frozenset()


def test_what_is_together_already_is_no_news(planned, entries):
    tied = replace(GRAPH, tied=((LAST, "lm_head", FIRST),))
    again = Learnt(graph=tied, pins={})
    assert taught(planned, record(mismatches=(APART,)), (ERROR,), again) is None
    apart = replace(GRAPH, tied=((LAST, "lm_head"), (FIRST, "model.norm")))
    found = taught(planned, record(mismatches=(APART,)), (ERROR,), Learnt(graph=apart, pins={}))
    assert found.graph.tied == (*apart.tied, (FIRST, LAST))


@pytest.mark.parametrize(
    ("entry", "blocks"),
    [
        (FIRST, {FIRST}),
        ("model.layers", {each.name for each in LAYERS}),
        (f"{FIRST}.mlp.weight", {FIRST}),  # inside of it
        ("model.embed", set()),
    ],
)
def test_an_entry_that_repairs_it_pins_its_blocks(planned, entries, entry, blocks):
    entries[entry] = "cuda:1"
    found = taught(planned, record(mismatches=(APART,)), (ERROR,))
    if not blocks:
        assert found.graph.tied == ((FIRST, LAST),)
        return
    assert found.pins == dict.fromkeys(blocks, "cuda:1")
    assert set(found.reasons) == blocks and set(found.reasons.values()) == {
        "aten.add.Tensor at : two devices"
    }
    assert {each.change for each in found.constraints} == {f"{b} on cuda:1" for b in blocks}
    assert found.graph is GRAPH


@pytest.mark.parametrize("pinned", [FIRST, "model", f"{FIRST}.mlp"])
def test_a_pin_around_a_block_or_inside_it_stands(planned, entries, pinned):
    """What is pinned is not pinned again: the blocks that met are tied in its place."""
    entries[FIRST] = "cuda:1"
    before = Learnt(graph=GRAPH, pins={pinned: "cuda:0"})
    found = taught(planned, record(mismatches=(APART,)), (ERROR,), before)
    assert found.pins == before.pins and found.graph.tied == ((FIRST, LAST),)


def test_a_pin_of_another_block_does_not_stand_in_the_way(planned, entries):
    entries[FIRST] = "cuda:1"
    before = Learnt(graph=GRAPH, pins={LAST: "cuda:0"}, reasons={LAST: "why"})
    found = taught(planned, record(mismatches=(APART,)), (ERROR,), before)
    assert found.pins == {LAST: "cuda:0", FIRST: "cuda:1"}
    assert found.reasons[LAST] == "why"


# --------------------------------------------------------------------------------------- warnings


def warning(module: str | None, **changed: str) -> Finding:
    """``block=device``; names with ``__`` for the dots."""
    return Finding(
        code="DP305",
        severity=Severity.WARNING,
        message="too many copies",
        module=module,
        fix=Fix(
            changed_entries={name.replace("__", "."): device for name, device in changed.items()}
        ),
    )


AWAY = warning("model.norm", model__norm="cuda:1")


def test_a_warning_moves_the_block_that_it_names():
    before = Learnt(graph=GRAPH, pins={"lm_head": "cuda:0"}, reasons={"lm_head": "why"})
    found = learn_from_warnings(before, [AWAY, warning("model.rotary_emb")])
    assert found.pins == {"lm_head": "cuda:0", "model.norm": "cuda:1"}
    assert found.reasons == {"lm_head": "why", "model.norm": "DP305, too many copies"}
    (constraint,) = found.constraints
    assert constraint.change == "model.norm on cuda:1"
    assert constraint.finding == "DP305, too many copies"
    assert found.graph is GRAPH
    both = [AWAY, warning("model.rotary_emb", model__rotary_emb="cuda:1", model__norm="cuda:0")]
    found = learn_from_warnings(before, both)
    assert found.pins == before.pins | {"model.norm": "cuda:1", "model.rotary_emb": "cuda:1"}
    # What one warning moved is not moved back by the next.
    again = [AWAY, warning("model.norm", model__norm="cuda:0")]
    assert learn_from_warnings(before, again).pins["model.norm"] == "cuda:1"


@pytest.mark.parametrize(
    "warnings",
    [
        (),
        (warning(None, model__norm="cuda:1"),),
        (warning("model.norm"),),
        (warning("model.norm", lm_head="cuda:1"),),
        (warning("model", model="cuda:1"),),  # no block
        (warning(FIRST, **{FIRST.replace(".", "__"): "cuda:1"}),),  # pinned
        (warning("lm_head", lm_head="cuda:1"),),  # pinned inside
    ],
)
def test_other_warnings_teach_nothing(warnings):
    pins = {"model.layers": "cuda:0", "lm_head.weight": "cuda:0"}
    assert learn_from_warnings(Learnt(graph=GRAPH, pins=pins), warnings) is None


# ------------------------------------------------------------------------------- peaks of a proof


def test_the_peak_of_a_card_is_its_load_and_what_ran_beside_it(planned):
    loads = {load.device: load.load_bytes for load in planned.loads}
    run = record(peaks=(peak("cuda:0", 9), peak("cpu", 50)))
    assert card_peaks(planned, run) == {**loads, "cuda:0": loads["cuda:0"] + 9}
    onload = replace(planned, loads=tuple(replace(load, onload_bytes=4) for load in planned.loads))
    # Room for onloaded weights is part of the load and of what ran.
    assert card_peaks(onload, run)["cuda:0"] == loads["cuda:0"] + 4 + 9 - 4
    small = record(peaks=(peak("cuda:0", 3),))
    assert card_peaks(onload, small)["cuda:0"] == loads["cuda:0"] + 4


def test_the_peak_of_a_phase_is_the_largest_of_its_own(planned):
    loads = {load.device: load.load_bytes for load in planned.loads}
    run = record(
        (FIRST, "encode", "cuda:0", 7),
        (LAST, "encode", "cuda:0", 5),
        (LAST, "decode", "cuda:1", 3),
        (LAST, "elsewhere", "cuda:1", 100),
        (LAST, "decode", "cpu", 100),
        phases=("encode", "decode"),
    )
    assert phase_peaks(planned, run) == {
        "encode": {"cuda:0": loads["cuda:0"] + 7, "cuda:1": loads["cuda:1"]},
        "decode": {"cuda:0": loads["cuda:0"], "cuda:1": loads["cuda:1"] + 3},
    }


# ------------------------------------------------------------------------------------ short runs


def test_a_short_run_teaches_what_met_and_nothing_of_memory(planned, monkeypatch):
    found = {FIRST: "cuda:1"}
    monkeypatch.setattr(
        "devplan.workflows.constraints.entries_that_meet", lambda event, subject: found
    )
    about = subject()
    full = record(peaks=(peak("cuda:0", room(planned, "cuda:0") + 1),))
    about.runs = (record(), replace(full, is_short=True))
    assert learn(Learnt(graph=GRAPH, pins={}), planned, about, ()) is None
    about.runs = (record(), replace(record(mismatches=(APART,)), is_short=True))
    assert learn(Learnt(graph=GRAPH, pins={}), planned, about, (ERROR,)) is not None


@pytest.mark.parametrize("known", [((("", "prefill", "cuda:1", 5)),), ()])
def test_what_is_needed_between_the_blocks_is_learnt_on_every_card(planned, known):
    """Features that wait on the second card: the graph counts such things on the first alone."""
    needed = room(planned, "cuda:1") + 7
    found = taught(planned, record(*known, peaks=(peak("cuda:1", needed),)))
    known = [b for b in found.graph.blocks if b.activation is not None]
    raised = [b for b in known if needs(found.graph, b.name) >= needed]
    assert [planned.placement[block.name] for block in raised] == ["cuda:1"]
    assert found.graph.between == GRAPH.between
    assert f"cuda:1 keeps {needed} B for activations" in found.constraints[0].change
