"""Checks from several threads find what they find one after the other, and leave nothing behind."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn
from transformers import LlamaConfig

import devplan
from devplan import RunOptions
from devplan.sandbox.holding import exclusive
from tests.sandbox.models import Mixing, Small, loops, map_of, meta
from tests.sandbox.names import changed, process_now

CONFIG = LlamaConfig(
    hidden_size=16,
    intermediate_size=16,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=2,
    vocab_size=32,
    architectures=["LlamaForCausalLM"],
)
SHARED = meta(Mixing, 3)
"""One loaded model, which several threads check at once."""


def llama_map(shift: int) -> dict[str, int]:
    return {"model.embed_tokens": shift, "model.layers": 1, "model.norm": 1, "lm_head": shift} | {
        "model.rotary_emb": 1 - shift
    }


def cases() -> list[tuple[object, dict[str, int]]]:
    small = [(meta(Small, n), shift) for n in (1, 2, 3) for shift in (0, 1)]
    mixing = [(meta(Mixing, n), shift) for n in (1, 2) for shift in (0, 1)]
    maps = [(model, map_of(model, shift)) for model, shift in (*small, *mixing)]
    shared = [(SHARED, map_of(SHARED, shift)) for shift in (0, 1)]
    return [*maps, *shared, *((CONFIG, llama_map(shift)) for shift in (0, 1))]


def found(case) -> list[tuple[str, str]]:
    result = devplan.check(*case, options=devplan.RunOptions(run="forward"))
    return [(each.code, each.message) for each in result.findings]


def test_two_hundred_checks_over_eight_threads_find_what_they_find_alone():
    each = cases()
    alone = [found(case) for case in each]
    assert len({str(findings) for findings in alone}) > 4
    before = process_now()
    numbers = [i % len(each) for i in range(200)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda i: found(each[i]), numbers))
    wrong = [i for i, findings in zip(numbers, together, strict=True) if findings != alone[i]]
    assert wrong == []
    assert changed(before) == []


def test_suggest_beside_check(tmp_path):
    CONFIG.save_pretrained(tmp_path)
    work = devplan.Workload(context=64)
    case = meta(Mixing), map_of(meta(Mixing))
    alone = devplan.suggest(str(tmp_path), "1GiB,1GiB", work).map_file, found(case)
    before = process_now()
    with ThreadPoolExecutor(3) as threads:
        plans = [
            threads.submit(devplan.suggest, str(tmp_path), "1GiB,1GiB", work) for _ in range(2)
        ]
        checks = [threads.submit(found, case) for _ in range(8)]
        assert [plan.result().map_file for plan in plans] == [alone[0]] * 2
        assert [check.result() for check in checks] == [alone[1]] * 8
    assert changed(before) == []


def test_other_threads_hear_the_real_driver_and_keep_their_modules():
    """While a run lasts, what they ask and make is answered as ever."""
    here, heard = threading.Event(), threading.Event()
    inside: dict[str, object] = {}

    def during() -> None:
        inside["own"] = torch.cuda.device_count(), torch.cuda.is_available()
        here.set()
        assert heard.wait(30)

    def ask() -> None:
        assert here.wait(30)
        function = lambda: None  # noqa: E731
        inside["count"] = torch.cuda.device_count()
        inside["compiled"] = torch.compile(function) is function
        inside["parameter"] = vars(nn.Parameter(torch.zeros(1)))
        heard.set()

    real = torch.cuda.device_count()
    other = threading.Thread(target=ask)
    other.start()
    model = meta(Small, 2, during)
    devplan.check(model, map_of(model))
    other.join()
    assert inside["own"] == (2, True)
    assert inside["count"] == real
    assert inside["compiled"] is False
    assert inside["parameter"] == {}


def test_a_run_inside_a_run_is_refused(tmp_path):
    inner = meta(Small)
    before = process_now()
    model = meta(Small, 2, lambda: devplan.check(inner, map_of(inner)))
    with pytest.raises(devplan.InputError, match="from inside a virtual run"):
        devplan.check(model, map_of(model))
    assert changed(before) == []
    (tmp_path / "own.py").write_text(
        "import devplan, torch\n"
        "def make():\n"
        "    devplan.suggest('gpt2', '1GiB')\n"
        "    return {'input_ids': torch.ones(1, 4, dtype=torch.int64)}\n"
    )
    options = RunOptions(inputs=f"{tmp_path}/own.py:make")
    with pytest.raises(devplan.core.errors.UserCodeError, match="from inside a virtual run"):
        devplan.check(inner, map_of(inner), options=options)
    assert changed(before) == []
    assert devplan.check(inner, map_of(inner)).is_clean


def test_waiting_for_another_thread_has_the_limit_of_time():
    taken, done = threading.Event(), threading.Event()

    def hold() -> None:
        with exclusive():
            taken.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    taken.wait(30)
    model = meta(Small)

    def waits() -> float:
        start = time.monotonic()
        with pytest.raises(devplan.InputError, match=r"out of time after 0\.2 s"):
            devplan.check(model, map_of(model), options=RunOptions(timeout_s=0.2))
        return time.monotonic() - start

    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(waits).result() < 5
    assert waits() < 5
    done.set()
    holder.join()
    assert devplan.check(model, map_of(model)).is_clean


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_during_a_run_can_check():
    """Another thread forks while a run has the lock: the child has neither lock nor patches."""
    status: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            with exclusive():
                ours = [n for n, v in vars(torch.cuda).items() if hasattr(v, "__wrapped__")]
            os._exit(0 if torch.cuda.device_count() == real and "device_count" not in ours else 1)
        status.append(os.waitpid(child, 0)[1])

    def during() -> None:
        forking = threading.Thread(target=fork)
        forking.start()
        forking.join()

    real = torch.cuda.device_count()
    wrapped = hasattr(torch.cuda.device_count, "__wrapped__")
    model = meta(Small, 1, during)
    devplan.check(model, map_of(model), options=RunOptions(timeout_s=60))
    assert not wrapped
    assert status and set(status) == {0}


def test_a_thread_that_ends_in_an_error_lets_the_next_one_in():
    model, endless = meta(Small), meta(Small, 1, loops)
    options = RunOptions(timeout_s=0.3)
    with ThreadPoolExecutor(4) as threads:
        stopped = threads.submit(devplan.check, endless, map_of(endless), options=options)
        refused = threads.submit(devplan.check, model, {"nowhere": 0})
        clean = [threads.submit(devplan.check, model, map_of(model)) for _ in range(4)]
        assert all(each.result().is_clean for each in clean)
        assert isinstance(stopped.exception(), devplan.InputError)
        assert isinstance(refused.exception(), devplan.InputError)
