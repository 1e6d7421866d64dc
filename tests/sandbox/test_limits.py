"""A limit on time ends whatever is running, and leaves the caller's timers and signals alone."""

from __future__ import annotations

import logging
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import LlamaConfig

import devplan
from devplan import RunOptions
from devplan.sandbox.limits import OutOfTime, within
from devplan.virtual.limited import TooManyOps
from tests.sandbox import models
from tests.sandbox.models import Small, map_of, meta
from tests.sandbox.names import changed, process_now
from tests.virtual.traced import traced

LONGEST_S = 20
"""On a busy machine; each of these would last for ever."""

ANYWHERE = [
    models.loops,
    models.loops_and_catches_exceptions,
    models.loops_and_catches_everything,
    models.catches_once,
    models.calls_in_a_finally,
    models.swallows_ops,
]
IN_THE_MAIN_THREAD = [models.sleeps]


def stopped_after(during) -> float:
    model = meta(Small, 1, during)
    start = time.monotonic()
    with pytest.raises(OutOfTime, match=r"out of time after 0\.3 s; raise --timeout"):
        devplan.check(model, map_of(model), options=RunOptions(timeout_s=0.3))
    return time.monotonic() - start


@pytest.mark.parametrize("during", ANYWHERE + IN_THE_MAIN_THREAD, ids=lambda f: f.__name__)
def test_in_the_main_thread(during):
    before = process_now()
    assert stopped_after(during) < LONGEST_S
    assert changed(before) == []


@pytest.mark.parametrize("during", ANYWHERE, ids=lambda f: f.__name__)
def test_in_another_thread(during):
    before = process_now()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(stopped_after, during).result() < LONGEST_S
    assert changed(before) == []


def test_the_model_is_checked_as_ever_afterwards():
    model = meta(Small, 2)
    before = devplan.check(model, map_of(model))
    for seconds in (0.001, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05):
        try:
            after = devplan.check(model, map_of(model), options=RunOptions(timeout_s=seconds))
        except OutOfTime:
            after = devplan.check(model, map_of(model))
        assert after.findings == before.findings


def test_a_run_starts_no_program(monkeypatch):
    """Not accelerate's ``nvidia-smi`` either: the GPUs of a run are not this machine's."""
    asked = []
    monkeypatch.setattr("accelerate.utils.environment.get_gpu_info", lambda: asked.append(1))
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: asked.append(2))
    model = meta(Small, 2)
    devplan.check(model, map_of(model))
    assert asked == []


def test_building_is_in_the_limit(monkeypatch, tmp_path):
    LlamaConfig(architectures=["LlamaForCausalLM"]).save_pretrained(tmp_path)
    monkeypatch.setattr(
        "transformers.LlamaForCausalLM._from_config", lambda *_, **__: models.loops()
    )
    with pytest.raises(OutOfTime):
        devplan.check(str(tmp_path), {"": 0}, options=RunOptions(timeout_s=0.3))


def test_a_users_inputs_are_in_the_limit(tmp_path):
    (tmp_path / "own.py").write_text("def make():\n    while True:\n        pass\n")
    options = RunOptions(timeout_s=0.3, inputs=f"{tmp_path}/own.py:make")
    model = meta(Small)
    with pytest.raises(OutOfTime):
        devplan.check(model, map_of(model), options=options)


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), 0, -1, True, "5", 10**400, [1]])
def test_seconds_that_are_none_are_refused_in_python(seconds):
    model = meta(Small)
    with pytest.raises(devplan.InputError, match="seconds above 0"):
        devplan.check(model, map_of(model), options=RunOptions(timeout_s=seconds))


def test_the_callers_timer_runs_on():
    """A caller's alarm is due in the middle of our limit, and comes."""
    came: list[float] = []
    before = signal.signal(signal.SIGALRM, lambda *_: came.append(time.monotonic()))
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        assert stopped_after(models.loops) < LONGEST_S
        assert came and came[0] - start < 5
        signal.setitimer(signal.ITIMER_REAL, 500)
        stopped_after(models.loops)
        assert 400 < signal.getitimer(signal.ITIMER_REAL)[0] < 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TheirTime(BaseException):
    """What a caller's own limit raises."""


def test_a_limit_inside_a_limit_of_the_callers():
    def late(*_: object) -> None:
        raise TheirTime

    before = signal.signal(signal.SIGALRM, late)
    model = meta(Small, 1, models.loops)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(TheirTime):
            devplan.check(model, map_of(model), options=RunOptions(timeout_s=60))
        signal.setitimer(signal.ITIMER_REAL, 60)
        with pytest.raises(OutOfTime):
            devplan.check(model, map_of(model), options=RunOptions(timeout_s=0.2))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_signal_that_a_caller_handles_stays_the_callers():
    got: list[int] = []
    before = signal.signal(signal.SIGURG, lambda number, _: got.append(number))
    try:
        assert stopped_after(models.loops) < LONGEST_S
        signal.raise_signal(signal.SIGURG)
        assert got == [signal.SIGURG]
    finally:
        signal.signal(signal.SIGURG, before)


def test_limits_inside_each_other():
    with pytest.raises(OutOfTime, match=r"after 0\.2 s"):
        within(30, lambda: within(0.2, models.loops))
    with pytest.raises(OutOfTime, match=r"after 0\.2 s"):
        within(0.2, lambda: within(30, models.loops))
    assert within(5, lambda: within(5, lambda: 7)) == 7


def test_ctrl_c_goes_through(monkeypatch):
    def interrupt() -> None:
        raise KeyboardInterrupt

    before = process_now()
    model = meta(Small, 1, interrupt)
    with pytest.raises(KeyboardInterrupt):
        devplan.check(model, map_of(model), options=RunOptions(timeout_s=30))
    assert changed(before) == []


def test_a_run_has_an_end_without_a_limit_of_time():
    """A loop of ops that catches everything: its ops are limited, and it is interrupted."""
    model = meta(Small, 1, models.swallows_ops)
    with pytest.raises(TooManyOps):
        ids = torch.ones(1, 4, dtype=torch.int64)
        traced(model, (), {"input_ids": ids}, limit_ops=500)


def test_a_chat_template_that_loops_is_stopped(tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=8,
        architectures=["LlamaForCausalLM"],
    )
    config.save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>")),
        unk_token="<unk>",
    )
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer.chat_template = endless
    tokenizer.save_pretrained(tmp_path)
    start = time.monotonic()
    options = RunOptions(timeout_s=5)
    with pytest.raises(OutOfTime):
        devplan.check(str(tmp_path), {"": 0}, options=options)
    assert time.monotonic() - start < LONGEST_S


LOGS_FOR_A_WHILE = """
def log_for_a_while(monotonic, finished):
    end = monotonic() + 0.5
    while monotonic() < end:
        pass
    finished.append(True)
"""


@pytest.mark.parametrize("in_another_thread", [False, True])
def test_logging_is_not_interrupted_as_it_may_keep_its_lock(in_another_thread):
    names: dict = {}
    exec(compile(LOGS_FOR_A_WHILE, logging.__file__, "exec"), names)
    finished: list[bool] = []

    def run() -> None:
        within(0.05, lambda: names["log_for_a_while"](time.monotonic, finished))

    with ThreadPoolExecutor(1) as pool:
        call = (lambda: pool.submit(run).result()) if in_another_thread else run
        with pytest.raises(OutOfTime):
            call()
    assert finished == [True]
