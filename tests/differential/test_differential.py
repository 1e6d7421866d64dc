"""The harness on invented rows: what counts as agreement, the page; and a real type in full."""

from __future__ import annotations

import json

import pytest
import torch

from devplan.virtual.calls import usual_call
from tools.differential.__main__ import PAGE
from tools.differential.attempt import attempt
from tools.differential.explained import Explanation, load_explanations, unexplained
from tools.differential.gather import gather
from tools.differential.judge import Kind, disagreements
from tools.differential.page import agreement, page_of, problems
from tools.differential.real import RealCall, tried
from tools.differential.row import Failure, MapRow, Row, Stage, Way, row_of
from tools.differential.tiny import SIZES, tiny_config
from tools.sweep.universe import model_classes

HERE = "transformers/models/invented/modeling_invented.py:7"
ELSEWHERE = "transformers/models/invented/modeling_invented.py:9"
RAISES = Failure(what="NotImplementedError: Cannot copy out of meta tensor", place=HERE)
SAID = Failure(what="DP403 a weight is read on meta", place=HERE)
GOOD = Way()


def row(*maps: MapRow, stage: Stage = Stage.RAN, **settings) -> Row:
    return Row(model_type="invented", class_name="Invented", stage=stage, maps=maps, **settings)


def mapped(way: Way = GOOD, *said: Failure, **settings) -> MapRow:
    ways = {"from_pretrained": way}
    return MapRow(name="in order", num_blocks={"cpu": 1}, said=said, ways=ways, **settings)


def kinds(*maps: MapRow) -> list[Kind]:
    return [each.kind for each in disagreements(row(*maps))]


def test_silence_about_what_runs_is_agreement():
    assert kinds(mapped()) == []


def test_a_finding_at_the_line_that_raises_is_agreement():
    assert kinds(mapped(Way(failures={"generate": RAISES}), SAID)) == []


def test_a_finding_that_shows_at_the_line_that_raises_too_is_agreement():
    """What reads a weight on meta first gives arbitrary numbers, and the next line raises."""
    earlier = Failure(what="DP403 a weight is read on meta", place=ELSEWHERE, stack=(HERE,))
    assert kinds(mapped(Way(failures={"generate": RAISES}), earlier)) == []


def test_other_numbers_where_an_error_was_found_are_agreement():
    """torch multiplies a CPU tensor with a weight on meta, and does not raise."""
    assert kinds(mapped(Way(others=("generate",)), SAID)) == []


def test_everything_else_is_none():
    raising = Way(failures={"generate": RAISES})
    assert kinds(mapped(raising)) == [Kind.CLEAN_RAISES]
    assert kinds(mapped(Way(refused="ValueError: no"))) == [Kind.CLEAN_REFUSED]
    assert kinds(mapped(GOOD, SAID)) == [Kind.FALSE_ERROR]
    other = Failure(what="DP301 they meet", place=ELSEWHERE)
    assert kinds(mapped(raising, other)) == [Kind.ELSEWHERE]
    assert kinds(mapped(Way(others=("generate",)))) == [Kind.OTHER_OUTPUT]
    assert kinds(mapped(not_run="no inputs")) == [Kind.UNCHECKED]


def test_an_explanation_covers_the_types_that_it_names():
    (found,) = disagreements(row(mapped(Way(failures={"generate": RAISES}))))
    known = {"kind": Kind.CLEAN_RAISES, "says": "meta tensor", "why": "It is read."}
    assert unexplained([found], [Explanation(types=frozenset({"invented"}), **known)]) == []
    assert unexplained([found], [Explanation(types=frozenset({"another"}), **known)]) == [found]


def test_a_row_comes_back_from_its_line():
    made = row(mapped(Way(failures={"generate": RAISES}), SAID), calls=("generate",))
    assert row_of(json.loads(json.dumps(made.to_json()))) == made


def test_page_says_everything_and_is_the_same_in_any_order():
    rows = {
        "a": row(mapped(Way(failures={"generate": RAISES}))),
        "b": row(mapped(), calls=("generate",), refused={"beam search": "ValueError: no\nbeams"}),
        "c": row(stage=Stage.BUILD, reason="ImportError: scipy"),
    }
    page = page_of(rows, (), "With invented 1.")
    for text in ("Not explained yet", "Cannot copy out", "ValueError: no beams", "scipy", "50.00%"):
        assert text in page
    assert page_of(dict(reversed(rows.items())), (), "With invented 1.") == page
    assert agreement(rows.values()) == 0.5
    found = "\n".join(problems(rows, ()))
    assert "not explained: invented, in order" in found and "should" in found


def test_an_explanation_of_nothing_is_a_problem():
    stale = Explanation(kind=Kind.FALSE_ERROR, says="x", types=frozenset({"a"}), why="It was so.")
    assert "explained, but not found" in problems({"a": row(mapped())}, (stale,))[0]


def test_docs_hold_every_explanation():
    page = PAGE.read_text(encoding="utf-8")
    assert "Not explained yet" not in page
    for explanation in load_explanations():
        assert explanation.why in page


def test_widths_and_tokens_stay_together():
    config = tiny_config("qwen2_5_vl", SIZES[0])
    text, vision = config.text_config, config.vision_config
    assert vision.out_hidden_size == text.hidden_size
    assert text.hidden_size % text.num_attention_heads == 0
    tokens = {config.image_token_id, config.video_token_id, config.vision_start_token_id}
    assert len(tokens) == 3 and max(tokens) < text.vocab_size


def test_a_real_type_agrees():
    found = attempt("distilbert", "DistilBertForMaskedLM")
    assert found.stage is Stage.RAN, found.reason
    assert [each.name for each in found.maps] == ["in order", "planned"]
    assert all(each.num_blocks["cpu"] and each.num_blocks["disk"] for each in found.maps)
    assert set(found.maps[0].ways) == {"from_pretrained", "devplan.apply"}
    assert set(found.maps[1].ways) == {"from_pretrained", "devplan.load"}
    assert list(disagreements(found)) == []


@pytest.mark.slow
def test_a_late_process_is_a_row(monkeypatch, tmp_path):
    monkeypatch.setattr("tools.differential.gather.LATE_S", 0)
    (late,) = gather(model_classes(), ["llama"], processes=1, log=tmp_path / "log")
    assert late.stage is Stage.TIME


def test_memory_of_this_machine_that_ends_says_nothing_of_the_map():
    class Hungry(torch.nn.Module):
        def forward(self):
            return torch.empty(2**55)

    call = RealCall(name="forward", call=usual_call(Hungry()), kwargs={}, expected=[])
    with pytest.raises(MemoryError, match="DefaultCPUAllocator"):
        tried(Hungry(), (call,))
