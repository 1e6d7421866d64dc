"""What `devplan suggest` writes, the check does not complain about."""

from __future__ import annotations

import pytest

from devplan.checker.checking import check
from devplan.checker.run_options import RunOptions
from devplan.core.device_map import device_map_of
from devplan.core.findings import Severity
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.workflows.suggesting import suggest
from tests.checks.case import HERE, model_name
from tests.checks.structure_only import check_structure
from tests.small_models import config_folder, small_llama

MODELS = sorted(folder.name for folder in (HERE / "models").iterdir())

NOT_RUN = "DP901"
"""What the structure alone is always told."""


@pytest.mark.parametrize("objective", ["balance", "fewest"])
@pytest.mark.parametrize("model", MODELS)
def test_suggested_map_is_clean(model, objective):
    machine = parse_gpus("640MiB,512MiB", reserve="64MiB")
    suggestion = suggest(model_name(model), machine, Workload(), objective=objective)
    result = check_structure(suggestion.source.id, suggestion.map_file)
    found = [d for d in (*result.errors, *result.warnings) if d.code != NOT_RUN]
    assert [(d.code, d.message) for d in found] == []


T5 = {
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 9,
    "num_decoder_layers": 9,
    "num_heads": 8,
    "vocab_size": 4096,
    "tie_word_embeddings": False,
    "decoder_start_token_id": 0,
}


def rotary_findings(result) -> list:
    return [d for d in result.findings if d.code == "DP305" and "rotary" in d.module]


@pytest.mark.parametrize(
    "gpus, offload",
    [
        ("400MiB,400MiB", ()),
        ("300MiB,600MiB", ()),
        ("256MiB,256MiB", ("cpu",)),
        ("300MiB", ("disk",)),
    ],
)
def test_what_suggest_writes_the_check_finds_clean_in_the_strict_sense(tmp_path, gpus, offload):
    folder = small_llama(tmp_path)
    machine = parse_gpus(gpus, reserve="0", offload=offload)
    found = suggest(folder, machine, Workload(context=512))
    result = check(folder, found.map_file)
    assert result.is_strictly_clean, result.warnings
    assert len({load.device for load in found.result.loads if load.weight_bytes}) == len(
        machine.cards
    )


def test_what_has_to_cross_in_any_case_is_a_note(tmp_path):
    """The second card has more layers, but rotary_emb would have to be given the hidden states."""
    folder = small_llama(tmp_path, num_hidden_layers=10)
    device_map = {"model.embed_tokens": 0, "model.rotary_emb": 0, "model.norm": 0, "lm_head": 0}
    device_map |= {f"model.layers.{i}": int(i > 3) for i in range(10)}
    (found,) = rotary_findings(check(folder, device_map))
    assert found.severity is Severity.NOTE and not found.fix.changed_entries


def test_a_cheaper_place_saves_as_much_as_the_finding_says(tmp_path):
    folder = small_llama(tmp_path, num_hidden_layers=10)
    device_map = {"model.embed_tokens": 0, "model.rotary_emb": 1, "model.norm": 1, "lm_head": 0}
    device_map |= {f"model.layers.{i}": int(i > 7) for i in range(10)}
    before = check(folder, device_map)
    (found,) = rotary_findings(before)
    assert found.severity is Severity.WARNING
    assert found.fix.changed_entries == {"model.rotary_emb": "cuda:0"}
    after = check(folder, device_map_of({**device_map, **found.fix.changed_entries}))
    # [10 layers] 16 copies go and 4 come; hidden states and positions need not go to rotary_emb.
    assert copies(before) - copies(after) == 14
    assert "cuda:0 would save 14 copies" in found.message


def copies(result) -> int:
    """By hooks in the first forward."""
    run = result.runs[0]
    first = (event for event in run.transfers if event.phase == run.phases[0])
    return sum(event.count for event in first if event.asked_by == "hook")


def test_no_place_helps_where_the_output_is_brought_back(tmp_path):
    """``generate`` has the encoder's output brought to where its inputs were."""
    folder = config_folder(tmp_path, "T5ForConditionalGeneration", "t5", **T5)
    device_map = {"shared": 0, "encoder": 0, "decoder.embed_tokens": 0, "lm_head": 0}
    device_map |= {f"decoder.block.{i}": 1 for i in range(9)} | {"decoder.final_layer_norm": 0}
    for run, severity in (("generate", Severity.NOTE), ("forward", Severity.WARNING)):
        result = check(folder, device_map, options=RunOptions(run=run))
        (found,) = (d for d in result.findings if d.code == "DP305" and d.module)
        assert found.module == "encoder.final_layer_norm" and found.severity is severity
    kept = {k: v for k, v in device_map.items() if k not in found.fix.dropped_entries}
    repaired = check(
        folder, {**kept, **found.fix.changed_entries}, options=RunOptions(run="forward")
    )
    assert copies(repaired) < copies(result)
    assert f"would save {copies(result) - copies(repaired)} copies" in found.message


def test_a_place_that_overflows_is_no_repair(tmp_path):
    folder = small_llama(tmp_path, vocab_size=65536)
    device_map = {"model.embed_tokens": 1, "model.rotary_emb": 0, "model.norm": 0, "lm_head": 1}
    device_map["model.layers"] = 0
    for gpus, severity in (("2GiB,2GiB", Severity.WARNING), ("320MiB,2GiB", Severity.NOTE)):
        machine = parse_gpus(gpus, reserve="0")
        workload = Workload(context=64)
        result = check(folder, device_map, machine=machine, main_device=0, workload=workload)
        (found,) = (d for d in result.findings if d.code == "DP205")
        assert found.severity is severity, result.findings
        assert bool(found.fix.changed_entries) is (severity is Severity.WARNING)


def test_a_block_goes_where_it_costs_less_if_nobody_pinned_it(tmp_path):
    folder = small_llama(tmp_path, num_hidden_layers=10)
    pins = {f"model.layers.{i}": "cuda:1" for i in range(10)} | {"model.norm": "cuda:1"}
    machine, request = parse_gpus("1GiB,1GiB", reserve="0"), Workload(context=64)
    pins["model.embed_tokens"] = "cuda:1"
    found = suggest(folder, machine, request, pins=pins)
    assert found.result.placement["model.rotary_emb"] == "cuda:1"
    (lesson,) = found.map_file.constraints
    assert lesson.change == "model.rotary_emb on cuda:1" and lesson.finding.startswith("DP305")
    pinned = suggest(folder, machine, request, pins={**pins, "model.rotary_emb": "cuda:0"})
    assert pinned.result.placement["model.rotary_emb"] == "cuda:0"
