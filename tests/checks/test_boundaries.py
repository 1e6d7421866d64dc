"""Where rules begin and end: one byte, one copy, one argument more or less."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.device_map import device_map_of
from devplan.core.findings import (
    BlockActivation,
    BlockInput,
    DevicePeak,
    RunRecord,
    Severity,
    TransferEvent,
)
from devplan.core.types import Card, Machine
from devplan.rules import cache_on_wrong_device, hidden_transfers, over_capacity, shadowed_entry
from devplan.rules.fixes import is_embedding_away
from devplan.rules.loads import device_loads
from tests.checks.case import HERE, Case

LAYERS = {f"model.layers.{i}": "cuda:0" if i < 2 else "cuda:1" for i in range(6)}
MAP = {
    "model.embed_tokens": "cuda:0",
    **LAYERS,
    "model.norm": "cuda:1",
    "model.rotary_emb": "cuda:1",
    "lm_head": "cuda:1",
}


@pytest.fixture(scope="module")
def split():
    """A tiny Llama of which most lies on the second card."""
    subject = Case(folder=HERE / "cases" / "DP304_copied_cache").subject("clean")
    names = [block.name for block in subject.structure.graph.blocks]
    entries = {key: device for key, device in MAP.items() if key in names}
    assert set(names) == set(entries)
    return replace(subject, map=device_map_of(entries), runs=())


# ------------------------------------------------------------------------------------- capacity


def over(subject, missing: int, reserve: int = 0) -> list[tuple[str, Severity, str]]:
    """What is found where the second card lacks so many bytes, and the first has plenty."""
    load = device_loads(subject)["cuda:1"]
    needed = load.peak_bytes
    cards = (
        Card(device="cuda:0", name="a", capacity_bytes=2**40, reserve_bytes=0),
        Card(
            device="cuda:1",
            name="b",
            capacity_bytes=needed - missing + reserve,
            reserve_bytes=reserve,
        ),
    )
    subject = replace(subject, machine=Machine(cards=cards, main_device="cuda:0"))
    found = over_capacity.check(subject)
    return [(each.module, each.severity, each.message) for each in found]


def test_a_full_card_is_not_too_full_and_one_byte_more_is(split):
    assert over(split, 0) == []
    ((device, severity, message),) = over(split, 1)
    assert (device, severity) == ("cuda:1", Severity.ERROR)
    assert message.startswith("cuda:1 lacks 1 B: ")


def with_activations(subject, num_bytes: int):
    peak = DevicePeak(
        device="cuda:1",
        weight_bytes=0,
        cache_bytes=0,
        peak_bytes=num_bytes,
        module="model.layers.3",
        phase="prefill",
    )
    activation = BlockActivation(
        block="model.layers.3", phase="prefill", device="cuda:1", num_bytes=num_bytes
    )
    run = RunRecord(phases=("prefill",), inputs="text", peaks=(peak,), activations=(activation,))
    return replace(subject, runs=(run,))


def test_activations_may_take_from_the_reserve_and_weights_may_not(split):
    ran = with_activations(split, 1000)
    assert device_loads(ran)["cuda:1"].activation_bytes == 1000
    assert over(ran, 0, reserve=500) == []
    ((_, severity, message),) = over(ran, 1, reserve=500)
    assert severity is Severity.WARNING and "takes from its reserve 1 B" in message
    ((_, severity, _),) = over(ran, 500, reserve=500)
    assert severity is Severity.WARNING
    ((_, severity, message),) = over(ran, 501, reserve=500)
    assert severity is Severity.ERROR and "lacks 1 B" in message
    # A reserve larger than the activations: the weights reach it first.
    ((_, severity, message),) = over(ran, 1001, reserve=2000)
    assert severity is Severity.ERROR and "lacks 1 B" in message
    ((_, severity, _),) = over(ran, 1000, reserve=2000)
    assert severity is Severity.WARNING


def test_the_entry_that_is_named_is_the_largest_of_the_card_that_is_too_full(split):
    sizes = {
        key: sum(
            tensor.num_bytes
            for tensor in split.structure.tensors.values()
            if split.entry_of(tensor.name).key == key
        )
        for key in MAP
        if key in split.entries
    }
    for device in ("cuda:0", "cuda:1"):
        here = [key for key in sizes if split.entries[key].device == device]
        card = Card(device=device, name="a", capacity_bytes=1, reserve_bytes=0)
        small = replace(split, machine=Machine(cards=(card,), main_device="cuda:0"))
        (found,) = over_capacity.check(small)
        assert sizes[found.entry.key] == max(sizes[key] for key in here)
        assert found.entry.device == device
    assert not list(over_capacity.check(replace(split, machine=None)))


# --------------------------------------------------------------------------------------- entries


@pytest.mark.parametrize(
    ("more", "found"),
    [
        # what is placed by longer entries alone, on several cards, on another one, on the same
        ({"model": "cuda:1"}, "cuda:0, cuda:1"),
        ({"model.embed_tokens": "cuda:0", "model.embed_tokens.weight": "cuda:1"}, "cuda:1"),
        ({"model.embed_tokens": "cuda:0", "model.embed_tokens.weight": "cuda:0"}, None),
        # what places something, and what the model does not have
        ({"model.layers.0.mlp": "cuda:1"}, None),
        ({"model.layers.99": "cuda:1"}, None),
    ],
)
def test_an_entry_that_places_nothing_is_told_where_its_hook_does_something(split, more, found):
    given = device_map_of({**MAP, **more})
    told = list(shadowed_entry.check(replace(split, map=given)))
    assert [each.module for each in told] == ([next(iter(more))] if found else [])
    for each in told:
        assert f"longer entries place all of it on {found}, and its hook" in each.message
        assert each.fix.dropped_entries == (each.module,)


@pytest.mark.parametrize(
    ("device", "away"), [("cuda:0", False), ("cuda:1", True), ("cpu", False), ("disk", False)]
)
def test_the_embedding_belongs_where_it_is_computed(split, device, away):
    given = device_map_of({**MAP, "model.embed_tokens": device})
    moved = replace(split, map=given)
    assert is_embedding_away(moved) is away
    assert is_embedding_away(replace(moved, main_device="cuda:1")) is (device == "cuda:0")
    without = replace(split.structure, graph=replace(split.structure.graph, embedding=None))
    assert not is_embedding_away(replace(moved, structure=without))


# --------------------------------------------------------------------------------------- copies


def copies(number: int, **changed) -> TransferEvent:
    event = TransferEvent(
        source_device="cuda:1",
        target_device="cuda:0",
        asked_by="hook",
        module="model.layers.0",
        argument="position_embeddings",
        maker="model.rotary_emb",
        source=None,
        phase="prefill",
        num_bytes=64,
        count=number,
    )
    return replace(event, **changed)


def ran(subject, *runs: tuple[TransferEvent, ...]):
    records = (
        RunRecord(phases=("prefill", "decode 1"), inputs="text", transfers=transfers)
        for transfers in runs
    )
    return replace(subject, runs=tuple(records))


FEWEST = hidden_transfers.FEWEST_COPIES


@pytest.mark.parametrize(
    ("transfers", "number"),
    [
        ((copies(FEWEST),), FEWEST),
        ((copies(FEWEST - 1),), None),
        ((copies(FEWEST - 1), copies(1, module="model.layers.1")), FEWEST),
        ((copies(FEWEST - 1), copies(1, maker="model.embed_tokens")), None),
        ((copies(FEWEST - 1), copies(1, phase="decode 1")), None),
        ((copies(FEWEST, asked_by="to"),), None),
        ((copies(FEWEST, asked_by="io"),), None),
        ((copies(FEWEST, argument=None),), FEWEST),
        # a cache that is copied is DP304
        ((copies(FEWEST, argument="past_key_values"),), None),
        ((copies(FEWEST - 1), copies(9, argument="layer_past")), None),
    ],
)
def test_which_copies_of_a_forward_are_hidden(split, transfers, number):
    found = list(hidden_transfers.check(ran(split, transfers)))
    assert [each.count for each in found] == ([] if number is None else [number])
    for each in found:
        assert each.module == "model.rotary_emb" and f"{number} copies" in each.message
        assert f"{number * 64} B" in each.message


def test_copies_of_other_runs_are_told_once(split):
    assert not list(hidden_transfers.check(ran(split, (), (copies(FEWEST),))))
    assert len(list(hidden_transfers.check(ran(split, (copies(8),), (copies(8),))))) == 1


def takes(block, *, maker="model.rotary_emb", device="cuda:0", num_bytes=64, count=2):
    return BlockInput(block=block, maker=maker, device=device, num_bytes=num_bytes, count=count)


HIDDEN = {"maker": "model.embed_tokens", "count": 1}


@pytest.mark.parametrize(
    ("taken", "saved"),
    [
        ((), None),
        ((takes("model.layers.3"),), "2 copies and 128 B"),
        ((takes("model.layers.0"), takes("model.layers.3")), None),  # one comes, one goes
        ((takes("model.layers.0", count=1), takes("model.layers.3")), "1 copy and 64 B"),
        # what enters it has to come as well, or need not any more
        ((takes("model.layers.3"), takes("model.rotary_emb", num_bytes=64, **HIDDEN)), "1 copy"),
        ((takes("model.layers.3"), takes("model.rotary_emb", num_bytes=128, **HIDDEN)), "1 copy"),
        ((takes("model.layers.3"), takes("model.rotary_emb", num_bytes=129, **HIDDEN)), None),
        ((takes("model.layers.3"), takes("model.rotary_emb", device="cuda:1", **HIDDEN)), "3 cop"),
        # what somebody moved before it was taken is not the block's to save
        ((takes("model.layers.3", device="cuda:1"),), None),
        ((takes("model.layers.3", maker="model.embed_tokens"),), None),
    ],
)
def test_a_better_place_needs_fewer_copies_and_no_more_bytes(split, taken, saved):
    moved = replace(split, map=device_map_of({**MAP, "model.rotary_emb": "cuda:0"}))
    away = copies(8, source_device="cuda:0", target_device="cuda:1", module="model.layers.3")
    subject = ran(moved, (away,))
    subject = replace(subject, runs=(replace(subject.runs[0], entering=taken),))
    (found,) = hidden_transfers.check(subject)
    assert found.severity is (Severity.WARNING if saved else Severity.NOTE)
    assert found.fix.changed_entries == ({"model.rotary_emb": "cuda:1"} if saved else {})
    assert (f"cuda:1 would save {saved}" in found.message) is bool(saved)


def test_what_is_made_between_the_blocks_has_no_entry(split):
    nobody = copies(8, maker=None)
    (found,) = hidden_transfers.check(ran(split, (nobody,)))
    assert found.severity is Severity.NOTE and found.entry is None
    assert found.message.startswith("masks and positions made between the blocks: 8 copies")


@pytest.mark.parametrize(
    ("transfer", "is_found"),
    [
        (copies(1, argument="past_key_values"), True),
        (copies(1, argument="mems", phase="decode 1"), True),
        (copies(1, argument="past_key_values", asked_by="to"), False),
        (copies(1, argument="hidden_states"), False),
        (copies(1, argument=None), False),
    ],
)
def test_which_copies_are_of_a_cache(split, transfer, is_found):
    found = list(cache_on_wrong_device.check(ran(split, (transfer,))))
    assert bool(found) is is_found
    twice = list(cache_on_wrong_device.check(ran(split, (transfer,), (transfer,))))
    assert [each.count for each in twice] == ([2] if is_found else [])
