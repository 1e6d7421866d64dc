"""What lies elsewhere in another map, and what may be kept together where a plan does not run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from torch import nn

import devplan
from devplan.checker.structure import structure_as_it_lies
from devplan.core.device_map import device_map_of
from devplan.core.errors import InputError
from devplan.core.types import BlockGraph
from devplan.core.workload import Workload
from devplan.rules.context import CheckContext
from devplan.workflows.fallbacks import TOGETHER, _cards, _groups, _in_words, _modules
from devplan.workflows.map_diff import NOWHERE, Change, changes
from tests.planning.strategies import block, layer, machine, text_graph


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.layers = nn.ModuleList([Layer(), Layer()])
        self.bare = nn.Identity()


GRAPH = BlockGraph(
    blocks=(
        block("embed", 1),
        block("layers.0", 1, stack="layers"),
        block("layers.1", 1, stack="layers"),
        block("bare", 0),
        block("head", 1),
    )
)
STRUCTURE = structure_as_it_lies(Model(), GRAPH, frozenset({"Layer"}))
BEFORE = {"embed": "cuda:0", "layers": "cuda:0", "bare": "cuda:0", "head": "cuda:1"}


def context(entries) -> CheckContext:
    return CheckContext(
        model="m",
        structure=STRUCTURE,
        map=device_map_of(entries),
        machine=None,
        main_device="cuda:0",
        workload=Workload(context=1),
    )


@pytest.mark.parametrize(
    ("after", "found"),
    [
        (BEFORE, []),
        ({**BEFORE, "layers.1": "cuda:0"}, []),
        ({**BEFORE, "layers": "cuda:1"}, [(("layers.0", "layers.1"), "cuda:0", "cuda:1")]),
        (
            {**BEFORE, "layers.1": "cpu", "head": "cuda:0", "embed": "cuda:1"},
            [
                (("embed",), "cuda:0", "cuda:1"),
                (("layers.1",), "cuda:0", "cpu"),
                (("head",), "cuda:1", "cuda:0"),
            ],
        ),
        # a block that a map divides is told tensor by tensor
        ({**BEFORE, "layers.1.up": "cuda:1"}, [(("layers.1.up.weight",), "cuda:0", "cuda:1")]),
        ({k: d for k, d in BEFORE.items() if k != "head"}, [(("head",), "cuda:1", NOWHERE)]),
        ({**BEFORE, "bare": "cuda:1"}, [(("bare",), "cuda:0", "cuda:1")]),
    ],
)
def test_what_lies_elsewhere(after, found):
    expected = tuple(Change(names=names, before=old, after=new) for names, old, new in found)
    assert changes(context(BEFORE), context(after)) == expected


def test_a_block_that_both_maps_divide_alike_is_no_change():
    divided = {**BEFORE, "layers.0.up": "cuda:1"}
    assert changes(context(divided), context(divided)) == ()
    assert changes(context(divided), context(BEFORE)) == (
        Change(names=("layers.0.up.weight",), before="cuda:1", after="cuda:0"),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"before": {"": 0}}, "a map is missing; give two"),
        ({"before": {"": 0}, "after": {"": 0}}, "neither map names its model"),
        (
            {"before": {"": 0}, "after": {"": 0}, "model": "gpt2"},
            "neither map names its GPUs; give --gpus 24GiB,12GiB",
        ),
    ],
)
def test_what_two_maps_do_not_say_is_asked_for(arguments, words):
    with pytest.raises(InputError, match=words):
        devplan.diff(**arguments)


# ------------------------------------------------------------------------------- kept together

CHAIN = text_graph([layer(number, 4) for number in range(3)], embed=5, head=6)


def test_cards_are_the_main_one_and_then_the_largest():
    assert _cards(machine(10, 30, 20, 40)) == ["cuda:0", "cuda:3", "cuda:1"]
    assert _cards(machine(10, 30, main=1)) == ["cuda:1", "cuda:0"]


def test_blocks_are_named_by_the_fewest_modules():
    layers = frozenset(name for name in CHAIN.names if ".layers." in name)
    assert _modules(layers, CHAIN) == ["model.layers"]
    assert _modules(frozenset({"lm_head", "model.norm"}), CHAIN) == ["model.norm", "lm_head"]
    assert _modules(frozenset(CHAIN.names), CHAIN) == ["lm_head", "model"]


def test_groups_grow_until_they_are_the_whole_model(monkeypatch):
    met = {"model.layers.1", "lm_head"}
    monkeypatch.setattr("devplan.workflows.fallbacks.met_in", lambda *_: frozenset(met))
    groups = list(_groups(SimpleNamespace(graph=CHAIN, context=None, record=None)))
    names = set(CHAIN.names)
    layers = {name for name in names if ".layers." in name}
    assert groups == [met, met | (names - layers), met | layers, names]
    met.clear()
    assert list(_groups(SimpleNamespace(graph=CHAIN, context=None, record=None)))[-1] == names
    graph = replace(CHAIN, blocks=CHAIN.blocks[:1])
    assert list(_groups(SimpleNamespace(graph=graph, context=None, record=None))) == [
        {CHAIN.names[0]}
    ]


def test_what_ran_together_is_said_as_it_is_typed():
    names = frozenset({"model.layers.0", "lm_head"})
    pins = {"lm_head": "cuda:1", "model.layers.0": "cuda:1"}
    assert _in_words(CHAIN, names, pins) == TOGETHER.format(
        pins="--pin lm_head=cuda:1 --pin model.layers.0=cuda:1", blocks="2 blocks", size="10 B"
    )
    whole = _in_words(CHAIN, frozenset(CHAIN.names), {"model": "cuda:0"})
    assert whole.startswith("--pin model=cuda:0: the whole model together, ")
