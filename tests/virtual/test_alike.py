"""Labels of tensors, which layers are alike, and what a call gives once more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.models import BlockSite
from devplan.virtual.folding import (
    call_signature,
    extrapolate,
    kinds_with_repeats,
    layer_kinds,
    layer_numbers,
    remember,
    repeat,
    result_bytes,
)
from devplan.virtual.labels import (
    attribute_path,
    give_name,
    joint_sources,
    label_of,
    maker_of,
    mark,
    name_of,
    plain_tensors,
    sources_of,
    unmark,
)
from devplan.virtual.memory import cache_bytes, cache_places

ONE, TWO = torch.device("cuda:0"), torch.device("cuda:1")


def on(device, maker=None, sources=None, shape=(2,), dtype=torch.float32) -> torch.Tensor:
    return mark(torch.empty(shape, dtype=dtype, device="meta"), device, maker, sources)


# -------------------------------------------------------------------------------------- labels


def test_sources_are_the_maker_or_what_went_into_it():
    made, between = on(ONE, "a"), on(ONE, None, frozenset("bc"))
    mask = on(ONE, "mask", dtype=torch.bool)
    assert sources_of(made) == {"a"} and sources_of(between) == {"b", "c"}
    assert joint_sources([made, between, mask]) == {"a", "b", "c"}
    assert joint_sources([mask]) == {"mask"} and joint_sources([]) == frozenset()
    assert joint_sources([on(ONE), mask]) == {"mask"}  # the float comes from nowhere


def test_labels_are_left_where_nothing_is_said_and_taken_off():
    tensor = give_name(on(ONE, "a", frozenset("b")), "weight")
    mark(tensor, None, "c")
    assert (label_of(tensor), maker_of(tensor)) == (ONE, "c")
    mark(tensor, None, None)
    assert sources_of(tensor) == {"b"}
    assert name_of(give_name(tensor, None)) == "weight"
    unmark(tensor)
    assert (label_of(tensor), maker_of(tensor), name_of(tensor)) == (None, None, None)
    assert sources_of(tensor) == frozenset()


class Tables(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Linear(2, 2)
        self.register_buffer("angles", torch.zeros(4))
        self.plain = torch.ones(3)
        self.inside = [{"a": (torch.ones(2),)}]
        self.too_deep = [[[[torch.ones(1)]]]]


def test_plain_attributes_have_a_path():
    model = Tables()
    assert [path for path, _ in plain_tensors(model)] == ["plain", "inside[0]['a'][0]"]
    names = {id(model): "model", id(model.part): "model.part"}

    def path_of(tensor, *modules):
        return attribute_path(tensor, modules or (model,), names)

    assert path_of(model.plain[:1]) == "model.plain"
    assert path_of(model.angles[2:]) == "model.angles"
    assert path_of(model.inside[0]["a"][0]) == "model.inside[0]['a'][0]"
    assert path_of(torch.ones(3)) is None
    model.part.held = torch.ones(5)
    assert path_of(model.part.held) == "model.part.held"
    assert path_of(model.plain, model.part, model) == "model.plain"


# ------------------------------------------------------------------------------------- folding


def layer(width: int = 2, **attributes) -> nn.Module:
    made = nn.Sequential(nn.Linear(width, 2, device="meta"))
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def kinds(layers, config=None) -> list[int]:
    sites = [
        BlockSite(name=f"s.{number}", module=each, stack="s", class_name="Layer")
        for number, each in enumerate(layers)
    ]
    return [first for _, first in layer_kinds(sites, config or SimpleNamespace()).values()]


@pytest.mark.parametrize(
    ("layers", "firsts"),
    [
        ([layer(), layer(), layer()], [0, 0, 0]),
        ([layer(), layer(3), layer()], [0, 1, 0]),
        ([layer(), nn.Sequential(nn.Linear(2, 2, bias=False, device="meta"))], [0, 1]),
        ([layer(), nn.Sequential(nn.Linear(2, 2, dtype=torch.float16, device="meta"))], [0, 1]),
        ([layer(), nn.ModuleList([nn.Linear(2, 2, device="meta")])], [0, 1]),
        # which layer it is counts as little as what begins with an underscore
        ([layer(index=0), layer(index=1), layer(index=2)], [0, 0, 0]),
        ([layer(index=0), layer(index=1), layer(index=5)], [0, 0, 2]),
        ([layer(_own=1), layer(_own=2)], [0, 0]),
        ([layer(window=4), layer(window=4), layer(window=None)], [0, 0, 2]),
        ([layer(a=1), layer(b=1)], [0, 1]),
        ([layer(a=1), layer()], [0, 1]),
        ([layer(s=[torch.ones(2)]), layer(s=[torch.ones(2)])], [0, 0]),
        ([layer(s=[torch.ones(2)]), layer(s=[torch.ones(3)])], [0, 1]),
    ],
)
def test_layers_that_are_alike(layers, firsts):
    assert kinds(layers) == firsts


def test_lists_of_the_configuration_tell_layers_apart():
    layers = [layer(), layer(), layer()]
    inner = SimpleNamespace(kinds=["a", "b", "a"], to_dict=dict)
    assert kinds(layers, SimpleNamespace(types=["x", "x", "y"])) == [0, 0, 2]
    assert kinds(layers, SimpleNamespace(types=("x", "y"), moe=[0, 1, 2])) == [0, 0, 0]
    assert kinds(layers, SimpleNamespace(text=inner)) == [0, 1, 0]
    assert kinds(layers, {"types": "xxy"}) == [0, 0, 0]


def test_layers_of_two_stacks_are_of_two_kinds_and_numbered_apart():
    def site(name, stack, module=True):
        found = layer() if module else None
        return BlockSite(name=name, module=found, stack=stack, class_name="Layer")

    sites = (site("a.0", "a"), site("norm", None), site("b.0", "b"), site("a.1", "a"))
    sites = (*sites, site("bare", None, module=False), site("b.1", "b", module=False))
    assert layer_kinds(sites, None) == {"a.0": ("a", 0), "a.1": ("a", 0), "b.0": ("b", 0)}
    assert layer_numbers(sites) == {"a.0": 0, "b.0": 0, "a.1": 1}
    repeats = kinds_with_repeats(sites, None)
    assert repeats["norm"] == ("again", "norm") and repeats["a.1"] == ("a", 0)
    assert "bare" not in repeats


def test_calls_that_a_layer_cannot_tell_apart():
    first = call_signature((on(ONE), 3), {"mask": None})
    assert call_signature((on(ONE), 3), {"mask": None}) == first
    for args, kwargs in (
        ((on(TWO), 3), {"mask": None}),
        ((on(ONE, shape=(3,)), 3), {"mask": None}),
        ((on(ONE, dtype=torch.float16), 3), {"mask": None}),
        ((on(ONE), 4), {"mask": None}),
        ((on(ONE), 3), {"other": None}),
        ((on(ONE), 3), {"mask": object()}),
    ):
        assert call_signature(args, kwargs) != first
    assert call_signature((object(),), {}) == call_signature((object(),), {})


def test_what_a_call_gave_is_given_again():
    hidden, mask = on(ONE, "before"), on(TWO)
    new = on(TWO, "a.0", shape=(2, 3))
    number = mark(torch.tensor([5]), ONE, "a.0")
    given = (hidden, [new.t(), number], {"n": 7, "none": None})
    mark(given[1][0], TWO, "a.0")
    kept = remember(given, (hidden,), {"mask": mask}, "a.0")
    other = on(ONE, "x")
    passed, (shaped, integers), said = repeat(kept, (other,), {"mask": mask}, "a.1")
    assert passed is other and said == {"n": 7, "none": None}
    assert (shaped.shape, shaped.stride()) == ((3, 2), (1, 3))
    assert (label_of(shaped), maker_of(shaped), shaped.is_meta) == (TWO, "a.1", True)
    assert integers.tolist() == [5] and integers is not number
    assert (label_of(integers), maker_of(integers)) == (ONE, "a.1")
    assert result_bytes(kept) == {TWO: 512}
    assert remember(object(), (), {}, "a.0") is None
    large = remember((on(ONE, shape=(200,)), on(ONE), on(None)), (), {}, "a.0")
    assert result_bytes(large) == {ONE: 1024 + 512}


def test_a_larger_call_is_worked_out_from_two():
    def outcome(tokens, number=1):
        return remember([on(ONE, shape=(1, tokens, 4)), number], (), {}, "a.0")

    found = extrapolate(outcome(10), outcome(14), 2.5)
    tensor, number = repeat(found, (), {}, "a.0")
    assert tensor.shape == (1, 20, 4) and tensor.is_contiguous() and number == 1
    assert label_of(tensor) == ONE
    assert extrapolate(outcome(10), outcome(14, number=2), 2.5) is None
    assert extrapolate(outcome(10), remember([1, 1], (), {}, "a.0"), 2.5) is None
    assert extrapolate(outcome(10), remember([on(ONE)], (), {}, "a.0"), 2.5) is None


# --------------------------------------------------------------------------------------- cache


def test_bytes_of_a_cache_count_folded_layers_and_each_storage_once():
    ran, alone = on(ONE, "a.0", shape=(200,)), on(TWO, "b")
    own, nowhere = on(ONE, "a.2"), on(None, "a.0")
    output = SimpleNamespace(past_key_values=[ran, ran[:3], alone, own, nowhere], logits=on(ONE))
    mark(output.past_key_values[1], ONE, "a.0")
    # a.0 stands for a.1 and a.2, of which the last has put something there itself
    assert cache_bytes(output, {"a.0": {"a.1", "a.2"}}) == {ONE: 2 * 1024 + 512, TWO: 512}
    assert cache_bytes(SimpleNamespace(), {}) == {}


def test_tensors_of_a_cache_have_a_place():
    config = SimpleNamespace(to_diff_dict=None, x=torch.ones(2))
    inner = SimpleNamespace(keys={"a": (torch.ones(2), torch.ones(1))}, config=config, name="x")
    inner.itself, inner.model, inner.kind = inner, nn.Linear(2, 2), torch.Tensor
    output = {"past_key_values": [inner], "state": torch.ones(3), "hidden": torch.ones(4)}
    assert [place for place, _ in cache_places(output)] == [
        "past_key_values.0.keys.a.0",
        "state",
    ]
