"""The planner as a whole: plans that are verified, pins, ties, offloading, bad input."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from devplan.core.errors import InputError
from devplan.core.types import CacheGrowth, Infeasible, OffloadTier, Plan
from devplan.core.workload import Workload
from devplan.planning.instance import PlanRequest
from devplan.planning.pins import EMBEDDING, REASONS
from devplan.planning.planner import instance_of
from devplan.planning.problem import is_contiguous, share_of
from devplan.planning.search import loosest
from devplan.planning.solvers import chain, exhaustive, packing, sequential
from devplan.planning.verifier import verify
from tests.planning.strategies import (
    best_in_stages,
    block,
    cases,
    cpu,
    layer,
    machine,
    plan,
    text_graph,
    vision_graph,
)

GROWS = (CacheGrowth(bytes_per_token=1),)
SMALL = Workload(context=1)


def layers(*sizes, cache=()):
    return [layer(index, size, cache) for index, size in enumerate(sizes)]


def where(answer: Plan, *names: str) -> list[str]:
    return [answer.placement[name] for name in names]


def check_case(case) -> None:
    """What every answer must be, whatever was asked."""
    graph, cards, workload, objective, pins, default_pins = case
    asked = {"objective": objective, "pins": pins, "default_pins": default_pins}
    answer = plan(graph, cards, workload, **asked)
    assert plan(graph, cards, workload, **asked) == answer
    request = PlanRequest(machine=cards, workload=workload, pins=pins, default_pins=default_pins)
    posed = instance_of(graph, request)
    problem = posed.problem()
    if isinstance(answer, Infeasible):
        assert answer.reason and "\n" not in answer.reason
        assert not chain.fits(problem) and share_of(problem, sequential.solve(problem)) > 1
        if answer.proven and len(cards.cards) ** len(graph.blocks) <= 3_000:
            check_nothing_fits(posed)
        return
    verify(answer, graph, request)
    check_against_sequential(answer, problem, objective)
    if len(cards.cards) ** len(problem.loads_bytes) <= 3_000:
        check_best_of_its_class(answer, problem, objective)


def check_against_sequential(answer: Plan, problem, objective: str) -> None:
    """Where filling card after card gives stages that fit, balanced stages are as even."""
    naive = sequential.solve(problem)
    if objective == "balance" and share_of(problem, naive) <= 1 and is_contiguous(naive):
        assert answer.certificate.bottleneck <= float(share_of(problem, naive))


def check_nothing_fits(posed) -> None:
    free = replace(posed, defaults={}, pinned_layers_in_chain=False).problem()
    assert share_of(free, exhaustive.solve(free)) > 1


def check_best_of_its_class(answer: Plan, problem, objective: str) -> None:
    """Default pins kept and balanced: as good as the oracle; given up: the oracle fails too."""
    best = best_in_stages(problem)
    fits = best is not None and share_of(problem, best) <= 1
    plain = not answer.relaxed and not answer.offload_bytes and answer.contiguous
    assert not fits or plain or objective == "context"
    if objective == "context":  # gives up what costs tokens: see `check_context`
        assert not fits or not answer.offload_bytes
        return
    if fits and objective == "balance":
        assert answer.certificate.bottleneck == float(share_of(problem, best))
    if answer.relaxed or answer.offload_bytes:
        whole = exhaustive.solve(problem) if not problem.pinned else None
        assert whole is None or share_of(problem, whole) > 1


@settings(max_examples=150, deadline=None)
@given(case=cases())
def test_every_answer_is_verified_deterministic_and_best_of_its_class(case):
    check_case(case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(case=cases(max_layers=7))
def test_ten_thousand_cases(case):
    check_case(case)


def check_context(case) -> None:
    """One token more than the plan holds fits in no placement of any kind with the user's pins."""
    graph, cards, workload, _, pins, default_pins = case
    asked = {"pins": pins, "default_pins": default_pins}
    answer = plan(graph, cards, workload, objective="context", **asked)
    if isinstance(answer, Infeasible) or answer.offload_bytes:
        return
    most = answer.certificate.most_tokens
    balanced = plan(graph, cards, workload, **asked)
    if most is None:
        return
    # Had the balanced plan no limit, neither would this one.
    assert most >= balanced.certificate.most_tokens
    posed = instance_of(graph, PlanRequest(machine=cards, workload=workload, **asked))
    problem = loosest(posed).problem(most + 1)
    assert share_of(problem, sequential.solve(problem)) > 1
    if len(problem.slots) ** len(problem.loads_bytes) <= 3_000:
        assert all(share_of(problem, each) > 1 for each in exhaustive.assignments(problem))
        assert answer.certificate.optimal_within.startswith("all placements")
    for relaxed in answer.relaxed:
        check_given_up_for_tokens(posed, relaxed, answer, most)


def check_given_up_for_tokens(posed, relaxed, answer: Plan, most: int) -> None:
    """With a rung of default pins kept, and the others as they are, fewer tokens fit."""
    kept = {posed.units.of[name] for name in relaxed.blocks}
    others = {posed.units.of[name] for each in answer.relaxed for name in each.blocks} - kept
    problem = replace(posed, relaxed=frozenset(others), pinned_layers_in_chain=False).problem(most)
    assert not chain.fits(problem) and packing.pack_within(problem).assignment is None


@settings(max_examples=80, deadline=None)
@given(case=cases(max_layers=4))
def test_context_holds_the_most_tokens(case):
    check_context(case)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(case=cases(max_layers=4))
def test_context_holds_the_most_tokens_in_ten_thousand_cases(case):
    check_context(case)


# ------------------------------------------------------------------------------------ known cases


def test_everything_but_layers_is_on_the_main_device_and_says_why():
    answer = plan(text_graph(layers(*[4] * 6)), machine(20, 20, main=1), SMALL)
    assert where(answer, "model.embed_tokens", "model.norm", "lm_head") == ["cuda:1"] * 3
    pins = {pin.block: pin.reason for pin in answer.pins}
    assert pins["model.embed_tokens"] == REASONS[EMBEDDING] == "the input ids enter here"
    assert answer.stages[0].device == "cuda:1" and "model.layers.0" in answer.stages[0].blocks
    assert [t.before for t in answer.transfers] == ["model.layers.2", "model.norm"]
    assert answer.contiguous and answer.certificate.solver == "chain"
    assert "contiguous stages" in answer.certificate.optimal_within


def test_without_default_pins_everything_is_spread():
    graph = text_graph(layers(*[4] * 4), embed=8, head=8)
    answer = plan(graph, machine(20, 20), SMALL, default_pins=False)
    assert answer.pins == ()
    assert where(answer, "model.embed_tokens", "lm_head") == ["cuda:0", "cuda:1"]
    assert len(answer.transfers) == 1


def test_a_tied_head_follows_the_embedding():
    graph = text_graph(layers(*[4] * 4), embed=8, tied=True)
    answer = plan(graph, machine(20, 20), SMALL, default_pins=False)
    assert len(set(where(answer, "model.embed_tokens", "lm_head"))) == 1
    answer = plan(graph, machine(20, 20), SMALL, pins={"lm_head": "1"})
    assert where(answer, "model.embed_tokens", "lm_head") == ["cuda:1"] * 2
    assert {pin.reason for pin in answer.pins if pin.device == "cuda:1"} == {"user"}


def test_towers_give_way_first_and_as_whole_as_needed():
    graph = vision_graph(layers(*[4] * 3), [6, 6], merger=2)
    answer = plan(graph, machine(20, 24), SMALL)
    (relaxed,) = answer.relaxed
    assert set(relaxed.blocks) == {
        "model.visual.blocks.0",
        "model.visual.blocks.1",
        "model.visual.merger",
    }
    assert "26 B of its 20 B" in relaxed.reason and "6 B are missing" in relaxed.reason
    assert where(answer, "model.embed_tokens", "lm_head") == ["cuda:0"] * 2


def test_the_embedding_gives_way_only_when_nothing_else_suffices():
    answer = plan(text_graph(layers(4, 4), embed=30, head=2), machine(20, 40), SMALL)
    assert [r.blocks for r in answer.relaxed] == [("model.embed_tokens",)]
    # The head was given up on the way there and is restored.
    assert where(answer, "lm_head", "model.embed_tokens") == ["cuda:0", "cuda:1"]


def test_pins_that_fit_are_kept_even_when_balance_suffers():
    answer = plan(text_graph(layers(4, 4), embed=16, head=1), machine(20, 80), SMALL)
    assert answer.relaxed == ()
    assert answer.certificate.bottleneck == pytest.approx(19 / 20)


def test_a_pinned_layer_becomes_part_of_the_stage_of_its_card():
    answer = plan(
        text_graph(layers(*[4] * 6)), machine(30, 30, 30), SMALL, pins={"model.layers.0": "2"}
    )
    assert answer.placement["model.layers.0"] == "cuda:2"
    assert answer.contiguous and answer.certificate.solver == "chain"


def test_pinned_layers_may_interrupt_the_stages_and_that_is_said():
    pins = {"model.layers.0": "1", "model.layers.3": "1", "model.layers.1": "cuda:0"}
    answer = plan(text_graph(layers(*[4] * 4)), machine(30, 30), SMALL, pins=pins)
    assert not answer.contiguous
    assert any("interrupt the stages" in note for note in answer.notes)


def test_a_packing_is_found_and_said_where_no_contiguous_stages_fit():
    graph = text_graph(layers(6, 4, 6, 4), embed=1, head=1)
    answer = plan(graph, machine(16, 8), SMALL)
    assert not answer.contiguous and answer.certificate.solver == "packing"
    assert answer.certificate.bottleneck == 1
    assert any("no contiguous stages fit" in note for note in answer.notes)


def test_nothing_is_offloaded_while_everything_fits():
    answer = plan(text_graph(layers(4, 4)), machine(20, tiers=(cpu(),)), SMALL)
    assert answer.offload_bytes == {}


def test_offload_takes_the_fewest_layers_and_keeps_room_to_load_them():
    graph = text_graph(layers(*[4] * 10, cache=GROWS), embed=2, head=2)
    answer = plan(graph, machine(24, 16, tiers=(cpu(),)), SMALL)
    # The other card holds 3 layers of 4 + 1.  The main card holds 6 of its own, room for one layer,
    # one layer of 5, and the caches of the 6 that are offloaded; a second layer would need 25.
    assert answer.offload_bytes == {"cpu": 6 * 4}
    main = answer.loads[0]
    assert main.onload_bytes == 4
    assert main.cache_bytes == 7 and main.load_bytes == 21
    assert answer.stages[-2].device == "cpu" and answer.relaxed == ()


def test_offload_finds_the_run_that_is_short_enough_for_the_main_card():
    # Two layers of 5 on the other card; three offloaded leave the main card no room for more.
    graph = text_graph(layers(*[4] * 6, cache=GROWS), embed=0, head=0)
    cards = machine(9, 10, tiers=(cpu(),))
    # Main card: rotary 1, norm 1, room for one layer 4; every offloaded layer's cache is 1.
    answer = plan(graph, replace(cards, cards=(*cards.cards, *machine(1, 1, 5).cards[2:])), SMALL)
    assert answer.offload_bytes == {"cpu": 12} and answer.relaxed == ()
    assert answer.loads[0].load_bytes == 9


def test_tiers_are_filled_in_order_and_not_beyond_their_size():
    graph = text_graph(layers(*[4] * 10, cache=GROWS), embed=2, head=2)
    tiers = (cpu(9), OffloadTier(device="disk", capacity_bytes=None))
    answer = plan(graph, machine(24, 16, tiers=tiers), SMALL)
    assert answer.offload_bytes == {"cpu": 8, "disk": 16}
    answer = plan(graph, machine(24, 16, tiers=(cpu(9),)), SMALL)
    assert isinstance(answer, Infeasible) and not answer.proven


def test_layers_of_towers_are_offloaded_where_those_of_the_main_run_do_not_suffice():
    # Main card: 10 of the ends, 3 of norm, rotary embedding and merger, and a tower of 3 x 6.
    graph = vision_graph(layers(4, 4), [6, 6, 6], merger=1)
    cards = machine(24, tiers=(cpu(),))
    answer = plan(graph, cards, SMALL)
    # With both layers of the main run gone 31 are left.  With two of the tower gone it is 13, one
    # of 6, and room to load one; with all three 19, beside which one layer of 4 has room.
    assert offloaded(answer) == [
        "model.visual.blocks.0",
        "model.visual.blocks.1",
        "model.visual.blocks.2",
        "model.layers.1",
    ]
    assert answer.loads[0].load_bytes == 5 + 5 + 3 + 4 + 6
    assert [relaxed.blocks for relaxed in answer.relaxed] == [tuple(offloaded(answer)[:3])]
    assert "go too" in answer.relaxed[0].reason
    pinned = {pin.block for pin in answer.pins}
    assert "model.visual.merger" in pinned and "model.visual.blocks.2" not in pinned


def test_towers_stay_where_offloading_layers_of_the_main_run_suffices():
    graph = vision_graph(layers(4, 4, 4, 4), [2, 2, 2])
    answer = plan(graph, machine(32, tiers=(cpu(),)), SMALL)
    assert offloaded(answer) == ["model.layers.2", "model.layers.3"] and answer.relaxed == ()


def test_a_tower_that_the_user_pins_is_not_offloaded():
    graph = vision_graph(layers(4, 4), [6, 6, 6], merger=1)
    cards = machine(24, tiers=(cpu(),))
    answer = plan(graph, cards, SMALL, pins={"model.visual.blocks.1": "cuda:0"})
    assert isinstance(answer, Infeasible)


def offloaded(answer: Plan) -> list[str]:
    return [name for name, device in answer.placement.items() if device == "cpu"]


def test_a_user_may_pin_to_a_tier():
    graph = text_graph(layers(*[4] * 4))
    pins = {"model.layers.1": "cpu"}
    answer = plan(graph, machine(40, tiers=(cpu(),)), SMALL, pins=pins)
    assert answer.offload_bytes == {"cpu": 4}
    # It runs on the main device, so nothing crosses.
    assert answer.transfers == ()


def test_fewest_uses_one_card_where_one_suffices():
    graph = text_graph(layers(*[4] * 4))
    assert len(set(plan(graph, machine(30, 30), SMALL).placement.values())) == 2
    answer = plan(graph, machine(30, 30), SMALL, objective="fewest")
    assert set(answer.placement.values()) == {"cuda:0"}


def test_context_counts_the_first_card_to_be_full():
    graph = text_graph(layers(*[4] * 4, cache=GROWS), embed=1, head=1)
    pinned = dict.fromkeys(("model.embed_tokens", "model.norm", "lm_head"), "0")
    answer = plan(graph, machine(20, 20), SMALL, pins=pinned, objective="context")
    # Main card: 4 bytes of its own and two layers of 4; (20 - 12) / 2 layers.
    assert answer.certificate.most_tokens == 4
    assert answer.certificate.most_tokens_bound >= 4


def test_context_gives_up_default_pins_for_tokens_and_says_how_many():
    graph = text_graph(layers(*[4] * 4, cache=GROWS), embed=1, head=1)
    answer = plan(graph, machine(20, 20), SMALL, objective="context")
    # Norm and head on the other card: (20 - 10) / 2 layers on both.
    assert answer.certificate.most_tokens == answer.certificate.most_tokens_bound == 5
    assert where(answer, "model.embed_tokens", "lm_head") == ["cuda:0", "cuda:1"]
    (relaxed,) = answer.relaxed
    assert set(relaxed.blocks) == {"model.norm", "lm_head"}
    assert relaxed.reason == "kept on cuda:0, 4 tokens fit instead of 5"
    assert answer.certificate.optimal_within == "all placements, by most tokens"


def test_no_cache_means_no_limit_of_tokens():
    answer = plan(text_graph(layers(4)), machine(20), SMALL, objective="context")
    assert answer.certificate.most_tokens is None
    window = (CacheGrowth(bytes_per_token=1, window_tokens=3),)
    answer = plan(text_graph(layers(4, cache=window)), machine(20), SMALL)
    assert answer.certificate.most_tokens is None


def test_context_prefers_a_placement_that_no_number_of_tokens_fills():
    # At 1 token the layer fits on either card, with its whole window only on the larger one.
    window = (CacheGrowth(bytes_per_token=2, window_tokens=3),)
    graph = text_graph(layers(8, cache=window), embed=5, head=5)
    asked = {"default_pins": False, "objective": "context"}
    answer = plan(graph, machine(13, 20), SMALL, **asked)
    assert answer.placement["model.layers.0"] == "cuda:1"
    assert answer.certificate.most_tokens is None


def test_bottleneck_on_unequal_cards_is_measured_against_each_budget():
    graph = text_graph(layers(*[3] * 12), embed=0, head=0)
    answer = plan(graph, machine(40, 20), SMALL, default_pins=False)
    certificate = answer.certificate
    assert certificate.lower_bound <= certificate.bottleneck <= certificate.lower_bound * 1.1


def test_four_thousand_blocks_are_no_matter():
    answer = plan(text_graph(layers(*[4] * 4000)), machine(*[2_500] * 8), SMALL)
    assert answer.certificate.bottleneck == pytest.approx(16012 / 20000, rel=2e-3)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("pins", "facts"),
    [
        ({"model.layer.0": "0"}, ["no module 'model.layer.0'", "did you mean", "model.layers.0"]),
        ({"model.layers.0": "7"}, ["no device 7", "cuda:0, cuda:1"]),
        ({"model.layers.0": "cpu"}, ["cpu", "--offload cpu=64GiB"]),
        (
            {"model.layers": "0", "model.layers.1": "cuda:1"},
            ["contradictory", "model.layers=cuda:0", "model.layers.1=cuda:1", "layers.1; drop"],
        ),
        (
            {"model.embed_tokens": "0", "lm_head": "1"},
            ["tied", "model.embed_tokens to cuda:0", "lm_head to cuda:1", "share one tensor"],
        ),
    ],
)
def test_bad_pins_are_refused_in_one_line(pins, facts):
    graph = text_graph(layers(4, 4), tied=True)
    with pytest.raises(InputError) as error:
        plan(graph, machine(20, 20), SMALL, pins=pins)
    message = str(error.value)
    assert "\n" not in message
    for fact in facts:
        assert fact in message


def test_pins_that_overlap_and_agree_both_hold():
    graph = text_graph(layers(4, 4), tied=True)
    pins = {"model.layers": "1", "model.layers.1": "cuda:1", "lm_head": "0"}
    answer = plan(graph, machine(20, 20), SMALL, pins={**pins, "model.embed_tokens": "cuda:0"})
    names = "model.layers.0", "model.layers.1", "lm_head", "model.embed_tokens"
    assert where(answer, *names) == ["cuda:1", "cuda:1", "cuda:0", "cuda:0"]


def test_a_pin_inside_a_block_holds_the_block_and_says_so():
    graph = text_graph(layers(4, 4))
    answer = plan(graph, machine(20, 20), SMALL, pins={"model.layers.1.mlp": "1"})
    assert answer.placement["model.layers.1"] == "cuda:1"
    assert any("model.layers.1.mlp is inside the block" in note for note in answer.notes)


def test_a_reserve_beyond_the_card_is_refused():
    card = replace(machine(20).cards[0], reserve_bytes=20)
    with pytest.raises(InputError, match=r"cuda:0.*--reserve"):
        plan(text_graph(layers(4)), replace(machine(20), cards=(card,)), SMALL)


def test_an_unknown_objective_is_refused():
    with pytest.raises(InputError, match="balance, context, fewest"):
        plan(text_graph(layers(4)), machine(20), SMALL, objective="balanced")


def test_blocks_that_no_run_reached_are_pinned_and_walked_by_no_stage():
    graph = text_graph(layers(4, 4))
    unused = block("model.unused", 3)
    graph = replace(graph, blocks=(*graph.blocks, unused), unexecuted=("model.unused",))
    answer = plan(graph, machine(20, 20), SMALL)
    assert answer.placement["model.unused"] == "cuda:0"
    assert all("model.unused" not in stage.blocks for stage in answer.stages)
