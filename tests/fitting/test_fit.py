"""What fits where: every answer is a plan that fits, and what was run is said."""

from __future__ import annotations

import pytest

import devplan
from devplan.core.errors import InputError
from devplan.core.types import Infeasible, Plan
from devplan.core.workload import Workload
from devplan.machine.parse import parse_gpus
from devplan.workflows.suggesting import suggest
from tests.small_models import small_llama

ASKED = Workload(context=512)
MACHINES = ("512MiB,256MiB", "400MiB,400MiB")


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> str:
    return small_llama(tmp_path_factory.mktemp("models") / "small-llama")


@pytest.fixture(scope="module")
def table(llama):
    return devplan.fit(llama, [*MACHINES, "256MiB"], cards=["300MiB"], workload=ASKED, reserve="0")


def rows_of(table, label):
    return {row.precision: row for row in table.rows if row.offer.label == label}


def test_every_machine_is_there_in_every_precision(table):
    named = {(row.offer.label, row.precision) for row in table.rows if row.offer.kind is None}
    labels = {label for label, _ in named}
    assert labels == {"512+256mib", "2x400mib", "256mib"}
    for label in labels:
        assert set(rows_of(table, label)) >= {"bfloat16", "8 bit", "4 bit"}


def test_the_best_come_first(table):
    fits = [row.fits for row in table.rows]
    assert fits == sorted(fits, reverse=True)
    ranks = [row.precision_rank for row in table.rows if row.fits]
    assert ranks == sorted(ranks)
    missing = [row.missing_bytes for row in table.rows if not row.fits]
    assert missing == sorted(missing)


def test_of_each_machine_the_finest_precision_that_fits_was_run(table):
    run = {row.offer.label: row for row in table.rows if row.is_proven}
    for label in ("512+256mib", "2x400mib"):
        assert run[label].precision == "bfloat16"
    for row in table.rows:
        for answer in (row.asked, row.tokens, row.sequences):
            if row.is_proven:
                assert answer.verification.status == "clean"
                at = f"at {answer.workload.tokens:,} tokens x batch {answer.workload.batch}"
                assert at in answer.verification.detail


def test_answers_fit_and_their_runs_did_too(table):
    for row in (row for row in table.rows if row.fits):
        assert row.tokens.workload.tokens >= 512
        assert row.sequences.workload.batch >= 1
        for answer in (row.asked, row.tokens, row.sequences):
            for load in answer.plan.loads:
                assert load.headroom_bytes >= 0
                if answer.verification.status != "unverified":
                    peak = answer.verification.peak_bytes[load.device]
                    assert load.load_bytes + load.activation_bytes // 2 <= peak
                    assert peak <= load.capacity_bytes
    assert any(row.is_proven for row in table.rows)


def test_lighter_weights_leave_more_room(table):
    rows = rows_of(table, "2x400mib")
    assert rows["4 bit"].weight_bytes < rows["8 bit"].weight_bytes < rows["bfloat16"].weight_bytes
    assert rows["4 bit"].share < rows["bfloat16"].share
    assert rows["4 bit"].most_tokens > rows["bfloat16"].most_tokens
    assert rows["4 bit"].most_sequences >= rows["bfloat16"].most_sequences


def test_what_does_not_fit_says_what_is_missing(table):
    row = rows_of(table, "256mib")["bfloat16"]
    assert isinstance(row.asked, Infeasible)
    assert row.missing_bytes > 0
    assert (row.most_tokens, row.most_sequences, row.share) == (None, None, None)


def test_of_a_kind_the_fewest_cards_are_found(table, llama):
    row = next(r for r in table.rows if r.offer.kind and r.precision == "bfloat16")
    count = len(row.offer.machine.cards)
    assert row.fits
    assert count > 1
    fewer = parse_gpus(f"{count - 1}x300MiB", reserve="0")
    assert isinstance(suggest(llama, fewer, ASKED, verify=False).result, Infeasible)
    enough = parse_gpus(f"{count}x300MiB", reserve="0")
    assert isinstance(suggest(llama, enough, ASKED, verify=False).result, Plan)


def test_fit_and_suggest_agree_on_the_most_tokens(table, llama):
    machine = parse_gpus(MACHINES[0], reserve="0")
    found = suggest(llama, machine, ASKED, objective="context")
    tokens = rows_of(table, "512+256mib")["bfloat16"].most_tokens
    assert tokens == pytest.approx(found.workload.tokens, rel=0.01)


def test_the_models_own_limit_ends_the_context(tmp_path):
    short = small_llama(tmp_path, max_position_embeddings=1024)
    (row, *_) = devplan.fit(short, ["2x1GiB"], workload=ASKED, verify=False).rows
    assert row.most_tokens == 1024
    assert row.ends_at_model
    assert not row.is_proven


def test_a_quantized_checkpoint_is_only_as_it_is():
    table = devplan.fit("openai/gpt-oss-20b", ["2x24GiB"], verify=False)
    assert [row.precision for row in table.rows] == ["mxfp4"]


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ([], ["nothing to choose from", "--gpus", "--card"]),
        (["2x24GiB"], ["--card 2x24GiB", "one kind"]),
        (["24GiB,12GiB"], ["--card", "one kind"]),
        (["0"], ["--card 0", "index"]),
        (["rtx4099"], ["rtx4099"]),
        (["24"], ["--card", "24GiB"]),
    ],
)
def test_what_is_no_kind_of_card(cards, words):
    with pytest.raises(InputError) as refused:
        devplan.fit("Qwen/Qwen3-8B", cards=cards)
    for word in words:
        assert word in str(refused.value)
