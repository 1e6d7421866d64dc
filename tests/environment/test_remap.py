"""A map on cards under other numbers: a permutation that holds, whenever there is one."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.core.errors import InputError
from devplan.environment.needs import Need, assignment, needs_of
from devplan.environment.remapping import remapped
from devplan.mapfile.consistency import check_consistency
from devplan.mapfile.document import to_document
from devplan.mapfile.read import loads_map
from devplan.mapfile.write import dump_map
from tests.environment.machines import card, example_map, machine
from tests.report.example_plans import MAP_FILE

SIZES = st.integers(1, 12)


@st.composite
def needs_and_cards(draw):
    wanted = draw(st.lists(SIZES, min_size=1, max_size=5))
    needs = tuple(
        Need(
            device=f"cuda:{index}",
            name=draw(st.sampled_from(["24GiB", "rtx-4090", "a100-80gb"])),
            planned_bytes=draw(SIZES) << 30,
            least_bytes=size << 30,
            reserve_bytes=draw(st.sampled_from([0, 1 << 29])),
            uuid=draw(st.sampled_from([None, "GPU-0", "GPU-3"])),
        )
        for index, size in enumerate(wanted)
    )
    sizes = draw(st.lists(SIZES, max_size=6))
    names = st.sampled_from([None, "NVIDIA GeForce RTX 4090"])
    cards = tuple(
        card(index, size, draw(names), taken_gib=draw(st.integers(0, size)))
        for index, size in enumerate(sizes)
    )
    return needs, cards


def some_order_holds(needs, cards) -> bool:
    """By trying all of them."""
    return any(
        all(need.whole_bytes <= card.room_bytes for need, card in zip(needs, order, strict=True))
        for order in permutations(cards, len(needs))
    )


@settings(deadline=None, max_examples=300)
@given(needs_and_cards())
def test_an_assignment_is_found_whenever_there_is_one(case):
    needs, cards = case
    found = assignment(needs, cards)
    assert (found is not None) == some_order_holds(needs, cards)
    if found is None:
        return
    assert list(found) == [need.device for need in needs]
    assert len(set(found.values())) == len(needs)
    rooms = {card.device: card.room_bytes for card in cards}
    assert all(need.whole_bytes <= rooms[found[need.device]] for need in needs)


def test_the_founding_case_12_and_24():
    given_map = example_map()
    here = remapped(given_map, machine(card(0, 12), card(1, 24)))
    other = {"cuda:0": "cuda:1", "cuda:1": "cuda:0"}
    assert here.device_map == {k: other[d] for k, d in given_map.device_map.items()}
    assert here.machine.main_device == "cuda:1"
    assert [pin.device for pin in here.pins] == [other[pin.device] for pin in given_map.pins]
    assert {load.device: load.load_bytes for load in here.loads} == {
        other[load.device]: load.load_bytes for load in given_map.loads
    }
    assert here.verification.peak_bytes == {
        other[d]: b for d, b in given_map.verification.peak_bytes.items()
    }
    assert here.certificate.bottleneck == given_map.certificate.bottleneck
    assert here.certificate.first_full == "cuda:0"
    assert [(r.source, r.target) for r in here.traffic.routes] == [
        (other[r.source], other[r.target]) for r in given_map.traffic.routes
    ]
    assert loads_map(dump_map(here), "remapped.yaml") == here


def test_there_and_back_is_the_same_but_for_the_notes():
    given_map = example_map()
    there = remapped(given_map, machine(card(0, 12), card(1, 24)))
    back = remapped(there, machine(card(0, 24), card(1, 12)))
    assert replace(back, notes=()) == replace(given_map, notes=())


def test_what_has_its_numbers_stays_as_it_is():
    given_map = example_map()
    assert remapped(given_map, machine(card(0, 24), card(1, 12))) is given_map
    assert remapped(given_map, machine(card(0, 23.5), card(1, 11.6))) is given_map


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(8, 32), min_size=1, max_size=5))
def test_everything_in_the_map_follows_its_card(sizes):
    """Whatever the cards: refused, or the same map under one renaming, which can be written."""
    before = example_map()
    here = machine(*(card(index, size) for index, size in enumerate(sizes)))
    try:
        after = remapped(before, here)
    except InputError:
        assert assignment(needs_of(before), here.cards) is None
        return
    new = {d: after.device_map[entry] for entry, d in before.device_map.items()}
    new["cpu"] = "cpu"
    assert after.device_map == {entry: new[d] for entry, d in before.device_map.items()}
    for item in ("loads", "pins"):
        devices = [each.device for each in getattr(before, item)]
        assert [each.device for each in getattr(after, item)] == [new[d] for d in devices]
    assert after.machine.main_device == new[before.machine.main_device]
    pairs = [
        (before.machine.links, after.machine.links),
        (before.transfers, after.transfers),
        (before.shared_copies, after.shared_copies),
        (before.traffic.routes, after.traffic.routes),
    ]
    for old, moved in pairs:
        ends = [(new[each.source], new[each.target]) for each in old]
        assert [(each.source, each.target) for each in moved] == ends
    for load in after.loads:
        room = here.card(load.device).room_bytes
        assert load.load_bytes + load.activation_bytes + load.reserve_bytes <= room
    check_consistency(to_document(after), lambda path, message: pytest.fail(f"{path}: {message}"))


def test_larger_cards_change_what_can_be_said():
    here = remapped(example_map(), machine(card(0, 16), card(1, 48)))
    assert {load.device: load.capacity_bytes >> 30 for load in here.loads} == {
        "cuda:1": 48,
        "cuda:0": 16,
    }
    assert here.certificate.bottleneck == max(load.share for load in here.loads)
    assert here.certificate.lower_bound <= here.certificate.bottleneck
    assert here.certificate.optimal_within == ""
    assert here.certificate.most_tokens == example_map().certificate.most_tokens
    assert "certainly fit" in here.notes[-1]
    assert loads_map(dump_map(here), "remapped.yaml") == here


def test_smaller_cards_promise_no_more_than_the_workload():
    here = remapped(example_map(), machine(card(0, 11), card(1, 20)))
    assert here.certificate.most_tokens == example_map().workload.tokens
    assert loads_map(dump_map(here), "remapped.yaml") == here


def test_what_fits_nowhere_is_refused_with_numbers():
    with pytest.raises(InputError) as caught:
        remapped(example_map(), machine(card(0, 12), card(1, 14)))
    message = str(caught.value)
    for fact in ("18.09 GiB (cuda:0)", "12.00 GiB (cuda:0)", "14.00 GiB (cuda:1)", "--gpus 0,1"):
        assert fact in message
    assert "\n" not in message


def test_a_card_that_is_in_use_is_no_place():
    with pytest.raises(InputError, match=r"4\.00 GiB \(cuda:1\)"):
        remapped(example_map(), machine(card(0, 12), card(1, 24, taken_gib=20)))
    free = machine(card(0, 24, taken_gib=20), card(1, 12), card(2, 24))
    assert remapped(example_map(), free).machine.devices == ("cuda:2", "cuda:1")


def test_without_gpus_it_is_refused():
    with pytest.raises(InputError, match="no GPU that torch can use"):
        remapped(example_map(), machine())


def test_the_very_card_comes_before_the_kind_and_the_kind_before_the_size():
    need = Need(
        device="cuda:0",
        name="rtx-4090",
        planned_bytes=24 << 30,
        least_bytes=10 << 30,
        reserve_bytes=0,
        uuid="GPU-2",
    )
    cards = (card(0, 24), card(1, 23.5, "NVIDIA GeForce RTX 4090"), card(2, 80, "NVIDIA H100"))
    assert assignment([need], cards) == {"cuda:0": "cuda:2"}
    assert assignment([replace(need, uuid=None)], cards) == {"cuda:0": "cuda:1"}
    assert assignment([replace(need, uuid=None, name="24GiB")], cards) == {"cuda:0": "cuda:0"}


def test_cards_that_the_map_leaves_empty_need_nothing():
    used = {need.device for need in needs_of(MAP_FILE)}
    assert used == {*MAP_FILE.device_map.values(), MAP_FILE.machine.main_device}
