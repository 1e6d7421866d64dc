"""What a map says of its runs: what ran, what was found, and what is not proven."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import nn

from devplan.core.findings import (
    BlockActivation,
    DevicePeak,
    Finding,
    MissedRun,
    ModelError,
    RunRecord,
    Severity,
    SourceLine,
)
from devplan.core.workload import Workload
from devplan.workflows.plan_runner import VerifiedPlan, verification_of
from tests.planning.strategies import layer, machine, plan, text_graph

WORKLOAD = Workload(context=2000, batch=3)
LAYERS = [layer(index, 20) for index in range(4)]
PLAN = plan(text_graph(LAYERS), machine(90, 60), WORKLOAD)
LOADS = {load.device: load.load_bytes for load in PLAN.loads}
LINE = SourceLine(file="a.py", line=7, function="forward", text="a + b")
ERROR = Finding(code="DP301", severity=Severity.ERROR, message="apart")


class Plain(nn.Module):
    """Neither has a forward nor generates."""


class Forward(Plain):
    def forward(self, x):
        return x


class Generates(Plain):
    def generate(self):
        return None


class Both(Forward, Generates):
    pass


def peak(device: str, rest: int) -> DevicePeak:
    return DevicePeak(
        device=device,
        weight_bytes=7,
        cache_bytes=5,
        peak_bytes=12 + rest,
        module=None,
        phase="prefill",
    )


RUN = RunRecord(
    name="generate",
    phases=("prefill", "decode 1"),
    inputs="text",
    peaks=(peak("cuda:0", 9),),
    activations=(
        BlockActivation(block="", phase="prefill", device="cuda:1", num_bytes=4),
        BlockActivation(block="", phase="elsewhere", device="cuda:1", num_bytes=400),
    ),
)
SHORT = replace(RUN, name="beam search", is_short=True, peaks=(peak("cuda:0", 10**6),))


def told(*runs, errors=(), model=Both, missed=(), components=(), installed=None):
    subject = SimpleNamespace(
        runs=runs,
        not_run="no code",
        workload=WORKLOAD,
        installed=installed or {},
        missed=missed,
        structure=SimpleNamespace(graph=SimpleNamespace(components=components)),
        skeleton=SimpleNamespace(model=model()),
    )
    run = VerifiedPlan(
        result=PLAN,
        graph=None,
        context=subject,
        errors=errors,
    )
    return verification_of(run)


def test_what_did_not_run_is_unverified_for_a_reason():
    found = told()
    assert (found.status, found.detail) == ("unverified", "not run: no code")
    assert (found.runs, found.peak_bytes, found.not_covered) == ((), {}, "")


def test_a_clean_run_says_at_what_and_with_which_releases():
    installed = {"diffusers": "0.35", "torch": "2.9", "accelerate": "1.2", "transformers": "5.1"}
    found = told(RUN, installed=installed)
    assert found.status == "clean"
    assert found.detail == (
        "ran prefill, decode 1 at 2,000 tokens x batch 3 with text: nothing that stops the model; "
        "transformers 5.1, accelerate 1.2, diffusers 0.35"
    )
    assert found.phase_bytes == {}
    one = told(RUN, installed={"accelerate": "1.2"})
    assert one.detail.endswith("; accelerate 1.2")
    assert told(replace(RUN, phases=())).detail.startswith("ran nothing at 2,000 tokens")


def test_a_run_that_was_cut_says_so_and_does_not_prove_the_memory():
    found = told(replace(RUN, cut_to_tokens=64), SHORT)
    assert found.detail.startswith(
        "ran prefill, decode 1 at 64 tokens instead of 2,000 tokens x batch 3 with text"
    )
    assert found.not_covered.startswith("the memory of generate at 2,000 tokens; ")


@pytest.mark.parametrize(("source", "place"), [(LINE, " at a.py:7"), (None, "")])
def test_what_stops_the_model_is_named_first(source, place):
    errors = (replace(ERROR, source=source), replace(ERROR, message="another"))
    found = told(RUN, errors=errors)
    assert found.status == "findings"
    assert found.detail == (
        f"ran prefill, decode 1 at 2,000 tokens x batch 3 with text: DP301{place}: apart"
    )
    assert found.runs == ("generate",) and found.peak_bytes["cuda:0"] == LOADS["cuda:0"] + 9


@pytest.mark.parametrize(("source", "place"), [(LINE, " at a.py:7"), (None, "")])
def test_a_model_that_raises_on_made_up_inputs_is_unverified(source, place):
    error = ModelError(type="ValueError", message="m" * 300, source=source, phase="prefill")
    found = told(replace(RUN, error=error), SHORT)
    assert found.status == "unverified"
    assert found.detail == (
        f"the model's code raised ValueError on inputs that devplan made{place} (prefill): "
        + "m" * 200
    )
    # A run that raised is not one that is proven.
    assert found.runs == ("beam search (64 tokens)",)
    assert told(replace(RUN, error=error), errors=(ERROR,)).status == "findings"


def test_runs_at_the_workload_come_before_short_ones():
    second = replace(RUN, name="forward")
    raised = replace(
        SHORT,
        name="text alone",
        error=ModelError(type="E", message="", source=None, phase="prefill"),
    )
    found = told(RUN, SHORT, raised, second)
    assert found.runs == ("generate", "forward", "beam search (64 tokens)")


FORWARD = "the memory of a forward over all positions at 2,000 tokens, which --run all plans for"
GENERATE = "generate, which --run all plans for"


@pytest.mark.parametrize(
    ("names", "model", "expected"),
    [
        (["generate"], Both, FORWARD),
        (["generate"], Generates, ""),
        (["forward"], Both, GENERATE),
        (["forward"], Forward, ""),
        (["generate", "forward"], Both, ""),
        (["another"], Both, ""),
    ],
)
def test_calls_that_no_run_made_at_the_workload_are_not_covered(names, model, expected):
    runs = [replace(RUN, name=name) for name in names]
    # A short run covers no memory.
    assert told(*runs, replace(SHORT, name="forward"), model=model).not_covered == expected


def test_runs_that_were_missed_are_not_covered_and_told_once():
    missed = [MissedRun(name="beam search", reason="too old")] * 2
    missed += [MissedRun(name="decode 1 of generate", reason="no time")]
    assert told(RUN, model=Generates, missed=missed).not_covered == (
        "beam search (too old); decode 1 of generate (no time)"
    )


def test_peaks_are_the_most_of_all_runs_at_the_workload():
    more = replace(RUN, name="forward", peaks=(peak("cuda:0", 3), peak("cuda:1", 20)))
    assert told(RUN, more, SHORT).peak_bytes == {
        "cuda:0": LOADS["cuda:0"] + 9,
        "cuda:1": LOADS["cuda:1"] + 20,
    }


def test_only_the_parts_of_a_pipeline_have_phases():
    found = told(RUN, components=("unet", "vae"))
    assert found.phase_bytes == {
        "prefill": {"cuda:0": LOADS["cuda:0"], "cuda:1": LOADS["cuda:1"] + 4},
        "decode 1": LOADS,
    }
