"""The traffic of a plan is that of its run: every copy, also of what the graph does not know."""

from __future__ import annotations

import pytest

from devplan.core.costs import DECODE, PREFILL, Traffic
from devplan.core.findings import RunRecord, TransferEvent
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.planning.speed import recorded_traffic
from devplan.workflows.suggesting import suggest
from tests.small_models import config_folder, small_llama

MACHINE = parse_gpus("24GiB,24GiB", links="10GB/s")
BYTES = 2


def event(phase: str, source: str, target: str, num_bytes: int, count: int = 1, kind="hook"):
    return TransferEvent(
        source_device=source,
        target_device=target,
        asked_by=kind,
        module="m",
        argument=None,
        maker=None,
        source=None,
        phase=phase,
        num_bytes=num_bytes,
        count=count,
    )


def test_copies_are_summed_by_step_and_link():
    record = RunRecord(
        phases=("prefill", "decode 1", "decode 2"),
        prompt_tokens=61,
        inputs="",
        transfers=(
            event("prefill", "cuda:0", "cuda:1", 1000, count=3),
            event("prefill", "cuda:0", "cuda:1", 500, kind="to"),
            event("prefill", "cpu", "cuda:0", 10**6, kind="offload"),
            event("decode 1", "cuda:0", "cuda:1", 7),
            event("decode 2", "cuda:0", "cuda:1", 8, count=2),
            event("decode 2", "cuda:1", "cuda:0", 9, kind="io"),
            event("prefill", "cuda:0", "meta", 10**9),
        ),
    )
    traffic = recorded_traffic(record, MACHINE)
    assert (traffic.num_copies(PREFILL), traffic.num_bytes(PREFILL)) == (5, 1_003_500)
    # One decode step, the last: the first may still make what the others reuse.
    assert (traffic.num_copies(DECODE), traffic.num_bytes(DECODE)) == (3, 25)
    first = traffic.routes[0]
    assert (first.source, first.target, first.link) == ("cuda:0", "cuda:1", "10 GB/s")
    latency = MACHINE.links[0].latency_s
    assert first.seconds == pytest.approx(4 * latency + 3500 / 10**10)
    assert [route.step for route in traffic.routes] == [PREFILL] * 2 + [DECODE] * 2


def planned(folder: str, gpus: str, **more):
    machine = parse_gpus(gpus, reserve="0")
    return suggest(folder, machine, Workload(context=131), **more)


def copies(traffic: Traffic, step: str, source: str, target: str) -> tuple[int, int]:
    route = next(r for r in traffic.of(step) if (r.source, r.target) == (source, target))
    return route.num_copies, route.num_bytes


def test_run_and_graph_agree_where_the_graph_knows_everything(tmp_path):
    folder = small_llama(tmp_path)
    run = planned(folder, "400MiB,400MiB").map_file.traffic
    guess = planned(folder, "400MiB,400MiB", verify=False).map_file.traffic
    assert (run.basis, guess.basis) == ("run", "graph")
    assert run.prompt_tokens == guess.prompt_tokens == 128
    for step in (PREFILL, DECODE):
        back = copies(run, step, "cuda:1", "cuda:0")
        assert back == copies(guess, step, "cuda:1", "cuda:0")
        tokens = 128 if step == PREFILL else 1
        assert back == (1, 1024 * BYTES * tokens)


def test_an_encoders_output_is_copied_to_every_layer_of_the_decoder(tmp_path):
    """Skip connections count at their real number of copies."""
    sizes = {"d_model": 512, "d_ff": 2048, "d_kv": 64, "num_heads": 8, "vocab_size": 512}
    sizes |= {"num_layers": 6, "num_decoder_layers": 6, "decoder_start_token_id": 0}
    folder = config_folder(tmp_path, "T5ForConditionalGeneration", "t5", **sizes)
    pins = {"encoder.block": "cuda:0", "decoder.block": "cuda:1"}  # the embeddings share one tensor
    traffic = planned(folder, "400MiB,400MiB", pins=pins).map_file.traffic
    assert traffic.basis == "run"
    encoded = 512 * BYTES * 128
    num_copies, num_bytes = copies(traffic, PREFILL, "cuda:0", "cuda:1")
    assert num_copies >= 6
    assert num_bytes >= 6 * encoded
