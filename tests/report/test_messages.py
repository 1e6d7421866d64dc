"""The reports fact by fact."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace

import pytest

from devplan.core.types import Relaxation, Transfer
from devplan.core.units import GIB, MIB
from devplan.mapfile.document import to_document
from devplan.report.sections import tokens_sentence, transfer_lines
from devplan.report.suggestion import infeasible_json, infeasible_text, plan_json, plan_text
from devplan.report.terminal import Terminal, terminal_of
from devplan.report.words import blocks_in_words, format_count, layers_in_words, machine_in_words
from tests.report.example_plans import (
    INFEASIBLE,
    INFEASIBLE_GRAPH,
    LOADS,
    MAP_FILE,
    MAP_PATH,
    MODEL,
    PLACEMENT,
    PLAN,
    VISION,
    WORKLOAD,
    layers,
    machine,
    offload_plan,
)

PIPE = Terminal()


def flat(text: str) -> str:
    """The report without its line breaks, so that wrapping hides no fact."""
    return " ".join(text.split())


def plan_report(plan=PLAN, map_file=MAP_FILE, terminal=PIPE) -> str:
    return plan_text(plan, map_file, terminal, MAP_PATH)


def infeasible_report(infeasible=INFEASIBLE, terminal=PIPE) -> str:
    return infeasible_text(infeasible, MODEL, machine(24, 12), WORKLOAD, INFEASIBLE_GRAPH, terminal)


@pytest.mark.parametrize(
    "fact",
    [
        "Qwen/Qwen2.5-VL-7B-Instruct",
        "Qwen2_5_VLForConditionalGeneration, 8.29B parameters, bfloat16, 15.45 GiB of weights",
        "24GiB + 12GiB; main device cuda:0",
        "batch 1, context of 32,768 tokens",
        "cuda:0 10.67 <0.01 1.06 0.75 11.52 50.5%",
        "cuda:1 4.78 0.00 0.69 0.75 5.79 48.6%",
        "cuda:1 model.language_model.layers.17 … model.language_model.layers.27",
        "11 layers of model.language_model.layers (17-27)",
        "cuda:0 -> cuda:1 before model.language_model.layers.17: 7.00 KiB per token",
        "Prefill of 32,765 tokens: 2 copies, 447.96 MiB, 25.3 ms (14.00 KiB and 772 ns per",
        "Decode step: 2 copies, 14.00 KiB, 30.8 us",
        "cuda:0 - cuda:1: PCIe 4.0 x16 through the host (18.6 GB/s, assumed); use --links to give",
        "Pins (all kept)",
        "cuda:0 model.visual (35 blocks): its output is merged into the embeddings",
        "lm_head: asked for",
        "The fullest GPU (bottleneck) is cuda:0 with a share of 50.5%",
        "below 49.8% (lower bound); the gap between the two is 1.2%",
        "proven best among contiguous stages with these pins (solver: contiguous).",
        "room for 308,608 tokens per sequence; then cuda:1 is full. No placement holds more than "
        "365,200 (upper bound).",
        "unverified: no check has run on this map",
        f'yaml.safe_load(open("{MAP_PATH}"))["device_map"]',
    ],
)
def test_plan_says(fact):
    assert fact in flat(plan_report())


@pytest.mark.parametrize(
    "fact",
    [
        "KV cache onload reserve",
        "offload to cpu (64.00 GiB)",
        "Pins that could not be kept lm_head: with it cuda:0 lacks 211.00 MiB",
        "cpu: 1.26 GiB of weights and buffers, copied to a GPU each time their module runs",
        "not contiguous",
        "Only the lower bound is proven",
        "No KV cache was found that grows with the context.",
        "Notes 40,000 tokens are more than",
    ],
)
def test_offload_says(fact):
    assert fact in flat(plan_report(*offload_plan()))
    assert fact not in flat(plan_report())


@pytest.mark.parametrize(
    "fact",
    [
        "Does not fit. 45.12 GiB of weights and cache do not fit into 34.50 GiB on 2 cards",
        "GPU capacity weights buffers KV cache activ. reserve missing",
        "cuda:0 24.00 24.00 0.00 2.00 4.00 1.00 7.00",
        "cuda:1 12.00 9.70 0.00 1.00 4.00 1.00 3.70",
        "weights 33.70 GiB, KV cache 3.00 GiB, activations 8.00 GiB, reserve 2.00 GiB.",
        "A prefill of 32,768 tokens at once needs 4.00 GiB on every GPU, in "
        "model.language_model.layers.0 (Qwen2_5_VLDecoderLayer).",
        "Proven: every placement of these blocks fills a GPU to 130.8% or more.",
        "--context 21504 instead of 32768",
    ],
)
def test_infeasible_says(fact):
    assert fact in flat(infeasible_report())


def test_gpus_that_are_alike_share_a_row():
    first = INFEASIBLE.loads[0]
    loads = (first, replace(first, device="cuda:1"), replace(INFEASIBLE.loads[1], device="cuda:2"))
    text = flat(infeasible_report(replace(INFEASIBLE, loads=loads)))
    assert "cuda:0-1 24.00 24.00 0.00 2.00 4.00 1.00 7.00 cuda:2 12.00" in text


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("", "The code between the blocks needs 4.00 GiB on cuda:0 while it runs."),
        ("model.language_model.layers.17", "needs 4.00 GiB on cuda:0, in model.language_model."),
    ],
)
def test_what_needs_most_is_named_with_its_gpu(block, said):
    first, second = INFEASIBLE.loads
    loads = (replace(first, activation_block=block), replace(second, activation_bytes=GIB))
    assert said in flat(infeasible_report(replace(INFEASIBLE, loads=loads)))


def test_without_a_placement_there_is_no_table():
    text = infeasible_report(replace(INFEASIBLE, loads=()))
    assert "Closest placement" not in text and "45.12 GiB of weights" in flat(text)


def test_not_proven_is_said():
    text = flat(infeasible_report(replace(INFEASIBLE, proven=False, lower_bound=0.97)))
    assert (
        "Not proven: no placement was found, but one may exist; the lower bound is 97.0%." in text
    )
    assert "Proven: every" not in text


def test_the_next_step_is_last():
    assert plan_report().rstrip().endswith(")")
    assert infeasible_report().rstrip().endswith("--offload cpu=12GiB")


@pytest.mark.parametrize("text", [plan_report(), infeasible_report()], ids=["plan", "infeasible"])
def test_80_columns_but_for_code_and_names(text):
    too_long = [line for line in text.splitlines() if len(line) > 80]
    assert all("yaml.safe_load" in line for line in too_long)


def test_plain_text_in_a_pipe_and_colours_on_request():
    assert "\x1b" not in plan_report()
    coloured = plan_report(terminal=Terminal(colours=True))
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plan_report()
    assert "\x1b[" in infeasible_report(terminal=Terminal(colours=True))


def test_ascii_where_the_stream_cannot_do_more():
    plan_report(terminal=Terminal(unicode=False)).encode("ascii")
    assert "#" in plan_report(terminal=Terminal(unicode=False))


class Stream(io.StringIO):
    def __init__(self, encoding, is_terminal):
        super().__init__()
        self._encoding, self._is_terminal = encoding, is_terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._is_terminal


def test_terminal_of_streams(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    assert terminal_of(Stream("utf-8", False)) == Terminal()
    assert terminal_of(Stream("utf-8", True)) == Terminal(width=100, colours=True)
    assert not terminal_of(Stream("ascii", True)).unicode
    assert not terminal_of(Stream("latin-1", False)).unicode
    assert not terminal_of(Stream(None, False)).unicode
    monkeypatch.setenv("NO_COLOR", "1")
    assert not terminal_of(Stream("utf-8", True)).colours


def test_bars():
    assert PIPE.bar(0, 4) == "░░░░"
    assert PIPE.bar(0.001, 4) == "█░░░"
    assert PIPE.bar(0.5, 4) == "██░░"
    assert PIPE.bar(1.7, 4) == "████"


def test_an_overfull_card_is_seen():
    full = replace(LOADS[0], weight_bytes=30 * GIB)
    text = plan_report(replace(PLAN, loads=(full, LOADS[1])))
    assert "-7.81" in text
    assert "134.6%" not in text.splitlines()[0]
    assert re.search(r"cuda:0 .* 13\d\.\d%", text)


# --------------------------------------------------------------------------------------- names


def test_names_of_blocks():
    assert blocks_in_words(VISION, PLACEMENT) == "model.visual (35 blocks)"
    assert blocks_in_words(layers(3, 6), PLACEMENT) == "model.language_model.layers.3-5"
    assert blocks_in_words(["lm_head"], PLACEMENT) == "lm_head"
    assert blocks_in_words(list(PLACEMENT), PLACEMENT) == "the whole model (67 blocks)"
    odd = [f"model.language_model.layers.{index}" for index in (0, 2, 4, 6, 8, 10)]
    assert blocks_in_words(odd, PLACEMENT).endswith("layers.6, 2 more")


def test_layers_in_words():
    assert layers_in_words(["a.0", "a.1", "a.3"]) == "3 layers of a (0-1, 3)"
    assert layers_in_words(["a.0", "b"]) == "1 layer of a (0), 1 other block"
    assert layers_in_words(["b", "c"]) == "2 blocks"


def test_counts():
    assert [format_count(n) for n in (712, 1_500, 8_292_166_656, 1_026_000_000_000)] == [
        "712",
        "1.50K",
        "8.29B",
        "1.03T",
    ]


def test_machine_in_words():
    assert machine_in_words(machine(24, 24, 12)) == "2 x 24GiB + 12GiB; main device cuda:0"
    card = replace(machine(24).cards[0], name="RTX 4090")
    on = replace(machine(24), cards=(card,))
    assert machine_in_words(on).startswith("RTX 4090 (24.00 GiB); ")


# ----------------------------------------------------------------------------------- transfers


def test_many_equal_crossings_are_counted():
    crossings = tuple(
        Transfer(source="cuda:1", target="cuda:0", before=f"layers.{index}", bytes_per_token=512)
        for index in range(80)
    )
    lines = transfer_lines(replace(PLAN, transfers=crossings), PIPE)
    assert flat(lines[0]) == "cuda:1 -> cuda:0 before layers.0 and 79 more: 80 x 512 B per token"
    assert len(lines) == 1


def test_crossings_keep_their_order():
    lines = transfer_lines(PLAN, PIPE)
    assert [line.split()[0] for line in lines[:2]] == ["cuda:0", "cuda:1"]


def test_no_transfers_no_section():
    assert transfer_lines(replace(PLAN, transfers=()), PIPE) == []
    assert "Transfers" not in plan_report(replace(PLAN, transfers=(), traffic=None))


def test_all_pins_relaxed_without_names():
    plan = replace(PLAN, relaxed=(Relaxation(blocks=(), reason="they need 30.00 GiB"),))
    assert "all default pins: they need 30.00 GiB" in plan_report(plan)


# ------------------------------------------------------------------------------------- context


def test_the_first_full_card_is_named():
    said = tokens_sentence(PLAN.certificate)
    assert f"room for {PLAN.certificate.most_tokens:,} tokens" in said
    assert "then cuda:1 is full" in said


# ---------------------------------------------------------------------------------------- json


def test_plan_json_is_the_file_and_the_stages():
    report = json.loads(plan_json(PLAN, MAP_FILE, MAP_PATH))
    document = json.loads(json.dumps(to_document(MAP_FILE)))
    assert {key: report[key] for key in document} == document
    assert set(report) - set(document) == {"status", "stages", "contiguous", "map_path", "load"}
    assert report["status"] == "plan"
    assert report["stages"][1] == {"device": "cuda:1", "blocks": list(layers(17, 28))}
    assert report["map_path"] == MAP_PATH
    assert json.loads(plan_json(PLAN, MAP_FILE, MAP_PATH, written=False))["map_path"] is None


def test_infeasible_json():
    report = json.loads(infeasible_json(INFEASIBLE, MODEL, machine(24, 12), WORKLOAD))
    assert report["status"] == "infeasible"
    assert report["shortfalls"][0] == {"device": "cuda:0", "missing_bytes": 7 * GIB}
    assert report["prediction"]["cuda:1"]["headroom_bytes"] == -(3 * GIB + 717 * MIB)
    assert report["proven"] is True
    assert report["remedies"] == [remedy.change for remedy in INFEASIBLE.remedies]
    unbounded = replace(INFEASIBLE, lower_bound=float("inf"))
    report = json.loads(infeasible_json(unbounded, MODEL, machine(24, 12), WORKLOAD))
    assert report["lower_bound"] is None


def test_every_json_key_is_documented():
    from tools.map_file_pages import reference_text

    reference = reference_text()
    plan = json.loads(plan_json(PLAN, MAP_FILE, MAP_PATH))
    infeasible = json.loads(infeasible_json(INFEASIBLE, MODEL, machine(24, 12), WORKLOAD))
    for key in plan.keys() | infeasible.keys():
        assert f"`{key}`" in reference, key
