"""States of folded layers: where they are put, and what they share."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from devplan.virtual.labels import label_of, maker_of, mark
from devplan.virtual.layer_state import StateCopy, lists_ending_at

CARD = torch.device("cuda:1")


def made(maker: str = "layers.0", size: int = 4) -> torch.Tensor:
    return mark(torch.empty(size, device="meta"), CARD, maker)


def copied(*arguments, source: int = 0, target: int = 1) -> list[torch.Tensor]:
    return StateCopy(source, target, f"layers.{source}", f"layers.{target}").run(arguments)


def test_a_list_grows_by_the_layer_that_comes_next():
    keys = [made()]
    (new,) = copied(SimpleNamespace(keys=keys))
    assert keys[1] is new and new is not keys[0]
    assert (label_of(new), maker_of(new), new.shape, new.is_meta) == (CARD, "layers.1", (4,), True)


def test_a_list_that_is_too_short_or_of_other_things_is_left_alone():
    shorter, other = [made()], [made(), "an index"]
    assert copied(SimpleNamespace(keys=shorter), target=2) == []
    assert len(shorter) == 1
    assert copied(SimpleNamespace(keys=other)) == []
    assert other[1] == "an index"


def test_a_list_without_the_source_is_looked_into():
    inner = SimpleNamespace(keys={2: made("layers.2")})
    (new,) = copied(SimpleNamespace(groups=[inner, inner]), source=2, target=3)
    assert inner.keys[3] is new


def test_a_dict_by_number_and_one_by_name():
    by_number = {0: made(), "seen": made()}
    by_name = {"keys": [made()], "values": {0: (made(), 3)}}
    foreign = {7: [made()]}
    found = copied(SimpleNamespace(a=by_number, b=by_name, c=foreign))
    assert [id(each) for each in found] == [
        id(by_number[1]),
        id(by_name["keys"][1]),
        id(by_name["values"][1][0]),
    ]
    assert by_name["values"][1][1] == 3 and list(foreign) == [7] and len(foreign[7]) == 1


def test_what_the_source_did_not_make_is_shared_unless_the_target_has_its_own():
    shared, own = made("embed"), made("layers.1")
    keys, kept = [shared], [shared, own]
    assert copied(SimpleNamespace(keys=keys, kept=kept)) == []
    assert keys[1] is shared and kept[1] is own


def test_one_that_cannot_be_told_apart_stays():
    keys = [made(), made("layers.1")]
    before = keys[1]
    assert copied(SimpleNamespace(keys=keys)) == [] and keys[1] is before
    keys = [made(), made("layers.1", size=3)]
    (new,) = copied(SimpleNamespace(keys=keys))
    assert keys[1] is new and new.shape == (4,)


def test_views_of_one_storage_stay_views_of_one_storage():
    whole = made(size=10)
    first = mark(whole[2:6], CARD, "layers.0")
    second = mark(whole[:2], CARD, "layers.0")
    keys, values = [first], [second]
    copied(SimpleNamespace(keys=keys, values=values))
    assert keys[1].untyped_storage()._cdata == values[1].untyped_storage()._cdata
    assert keys[1].untyped_storage()._cdata != whole.untyped_storage()._cdata
    assert keys[1].untyped_storage().nbytes() == whole.untyped_storage().nbytes()
    assert (keys[1].storage_offset(), keys[1].shape) == (2, (4,))


def test_an_object_of_the_target_is_filled_and_a_missing_one_is_made():
    class Layer:
        def __init__(self, keys, seen):
            self.keys, self.seen = keys, seen

    layers = [Layer(made(), 5), Layer(None, 0)]
    second = layers[1]
    (new,) = copied(SimpleNamespace(layers=layers))
    assert layers[1] is second and second.keys is new and second.seen == 5
    layers = [Layer(made(), 5)]
    (new,) = copied(SimpleNamespace(layers=layers))
    assert type(layers[1]) is Layer and layers[1].keys is new and layers[1].seen == 5


def test_real_values_are_copied():
    counts = [mark(torch.tensor([1, 2]), CARD, "layers.0"), mark(torch.zeros(2), CARD, "layers.1")]
    (new,) = copied(SimpleNamespace(counts=counts))
    assert counts[1] is new and new.tolist() == [1, 2] and maker_of(new) == "layers.1"


def test_what_is_no_cache_is_not_looked_into():
    model = nn.Linear(1, 1)
    model.keys = [made()]
    config = SimpleNamespace(to_diff_dict=None, keys=[made()])
    assert copied(model, config, [made()], {"keys": [made()]}, 3, None, print) == []
    holds_itself = SimpleNamespace(keys=[made()])
    holds_itself.itself = holds_itself
    assert len(copied(holds_itself)) == 1


def test_lists_that_end_at_the_target():
    at, long, short = [1, 2], [1, 2, 3], [SimpleNamespace(deep=[1, 2])]
    cache = SimpleNamespace(at=at, long=long, by_name={"x": {"y": [5, 6]}}, by_number={0: [7, 8]})
    cache.itself = cache
    inner = cache.by_name["x"]["y"]
    assert lists_ending_at(2, 1, [cache, nn.Linear(1, 1), [1, 2]]) == {id(at), id(inner)}
    assert lists_ending_at(2, 1, [SimpleNamespace(short=short)]) == {id(short[0].deep)}
    assert lists_ending_at(3, 1, [cache]) == {id(long)}
