"""Changed entries: what they bring together, and that they move nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from devplan.checker.structure import structure_as_it_lies
from devplan.core.device_map import device_map_of
from devplan.core.findings import MismatchEvent, OperandFact
from devplan.core.names import find_entry, is_inside
from devplan.core.types import OFFLOAD_DEVICES, BlockGraph
from devplan.core.workload import Workload
from devplan.rules.context import CheckContext
from devplan.rules.fixes import (
    entries_that_meet,
    entry_behind,
    exception_around,
    joined_on_one_device,
    offload_exceptions,
    spelled_out,
)
from tests.planning.strategies import block, layer


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(4, 4), nn.Linear(4, 4)


class Layer(nn.Module):
    """Two parts, and a tensor of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.mlp = Attention(), nn.Linear(4, 64)
        self.scale = nn.Parameter(torch.zeros(4))


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rotary = nn.Embedding(8, 4), nn.Linear(2, 2)
        self.layers = nn.ModuleList([Layer() for _ in range(3)])
        self.norm = nn.LayerNorm(4)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model, self.head = Inner(), nn.Linear(4, 8)


LAYERS = [layer(index, 8) for index in range(3)]
GRAPH = BlockGraph(
    blocks=(
        block("model.embed", 8),
        block("model.rotary", 8),
        *LAYERS,
        block("model.norm", 1),
        block("head", 8),
    ),
    embedding="model.embed",
    head="head",
)
with torch.device("meta"):
    STRUCTURE = structure_as_it_lies(Model(), GRAPH, frozenset({"Layer"}))
NAMES = [name for name in (*STRUCTURE.modules, *STRUCTURE.tensors) if name]
GPUS = ("cuda:0", "cuda:1", "cuda:2")
CARD = st.sampled_from(GPUS)
EVEN = {
    "model.embed": "cuda:0",
    "model.rotary": "cuda:1",
    "model.layers.0": "cuda:0",
    "model.layers.1": "cuda:1",
    "model.layers.2": "cuda:1",
    "model.norm": "cuda:1",
    "head": "cuda:0",
}


def subject(entries, main: str = "cuda:0") -> CheckContext:
    return CheckContext(
        model="m",
        structure=STRUCTURE,
        map=device_map_of(entries),
        machine=None,
        main_device=main,
        workload=Workload(context=1),
    )


def changed(entries, new, gone=()):
    return {key: device for key, device in entries.items() if key not in gone} | dict(new)


def placement(entries) -> dict[str, str | None]:
    found = {name: find_entry(entries, name) for name in STRUCTURE.tensors}
    return {name: None if key is None else entries[key] for name, key in found.items()}


# ---------------------------------------------------------------------------- written-out repairs


@st.composite
def repairs(draw, devices=GPUS):
    """(map that covers the model, entry that changes, its device)."""
    device = st.sampled_from(devices)
    whole = {"": draw(device)} if draw(st.booleans()) else {"model": draw(device)}
    whole |= {"head": draw(device)} if "" not in whole else {}
    longer = st.dictionaries(st.sampled_from(NAMES), device, max_size=4)
    return {**whole, **draw(longer)}, draw(st.sampled_from(NAMES)), draw(device)


@settings(max_examples=300, deadline=None)
@given(repairs())
def test_a_repair_moves_what_it_names_and_nothing_else(case):
    entries, key, device = case
    about = subject(entries)
    new, gone = spelled_out({key: device}, about)
    after = changed(entries, new, gone)
    before, placed = placement(entries), placement(after)
    for name in STRUCTURE.tensors:
        governing = find_entry(entries, name)
        # What has an entry of its own inside keeps it.
        keeps = not is_inside(name, key) or (governing != key and is_inside(governing, key))
        assert placed[name] == (before[name] if keeps else device)
    assert after[key] == device and set(gone) <= set(entries) and not set(gone) & set(new)
    # What is said to change does.
    assert all(entries.get(name) != there or name == key for name, there in new.items())
    outer = find_entry(after, key.rpartition(".")[0])
    if outer is not None and after[outer] != device:
        # An exception that accelerate hooks as one: a module that has no modules with tensors.
        assert key in STRUCTURE.modules
        assert not [n for n in STRUCTURE.modules if n != key and is_inside(n, key)]


@settings(max_examples=300, deadline=None)
@given(repairs((*GPUS[:2], "cpu")))
def test_no_repair_leaves_an_exception_in_or_of_what_is_offloaded(case):
    entries, key, device = case
    new, gone = spelled_out({key: device}, subject(entries))
    after = changed(entries, new, gone)
    before, placed = placement(entries), placement(after)
    assert None not in placed.values() or None in before.values()
    changed_key = min((name for name in new if is_inside(key, name)), key=len)
    assert after[changed_key] == device
    for name in STRUCTURE.tensors:
        assert placed[name] in (device, before[name])
        if is_inside(name, key) and not is_inside(find_entry(entries, name), key):
            assert placed[name] == device
        if not is_inside(name, changed_key):
            assert placed[name] == before[name]
    outer = find_entry(after, changed_key.rpartition(".")[0])
    if outer is not None and {device, after[outer]} & set(OFFLOAD_DEVICES):
        assert after[outer] == device
    if changed_key != key:  # the module on the way that has tensors of its own
        assert any(name.rpartition(".")[0] == changed_key for name in STRUCTURE.tensors)


@pytest.mark.parametrize(
    ("entries", "change", "new", "gone"),
    [
        # nothing around it, the same device around it
        (EVEN, {"model.norm": "cuda:0"}, {"model.norm": "cuda:0"}, ()),
        ({"": "cuda:0"}, {"model.layers.1": "cuda:0"}, {"model.layers.1": "cuda:0"}, ()),
        # a leaf may be an exception on cards, a module with parts may not
        ({"": "cuda:0"}, {"head": "cuda:1"}, {"head": "cuda:1"}, ()),
        (
            {"model": "cuda:0", "head": "cuda:0"},
            {"model.layers": "cuda:1"},
            {
                "model.embed": "cuda:0",
                "model.rotary": "cuda:0",
                "model.norm": "cuda:0",
                "model.layers": "cuda:1",
            },
            ("model",),
        ),
        # an entry on the way keeps its device
        (
            {"model": "cuda:0", "model.norm": "cuda:2", "head": "cuda:0"},
            {"model.layers": "cuda:1"},
            {"model.embed": "cuda:0", "model.rotary": "cuda:0", "model.layers": "cuda:1"},
            ("model",),
        ),
        # a leaf of what is offloaded, by way of what has no tensors of its own
        (
            {"model": "cpu", "head": "cuda:0"},
            {"model.norm": "cuda:0"},
            {
                "model.embed": "cpu",
                "model.rotary": "cpu",
                "model.layers": "cpu",
                "model.norm": "cuda:0",
            },
            ("model",),
        ),
        # of a layer with a bare tensor the whole layer comes
        (
            {**EVEN, "model.layers.1": "cpu"},
            {"model.layers.1.mlp": "cuda:0"},
            {"model.layers.1": "cuda:0"},
            (),
        ),
    ],
)
def test_repairs_in_entries_that_load(entries, change, new, gone):
    found, dropped = spelled_out(change, subject(entries))
    assert (dict(found), dropped) == (new, gone)


def test_several_changes_are_written_out_together():
    changes = {"model.layers.0": "cuda:1", "model.layers.1": "cuda:2"}
    entries = {"": "cuda:0"}
    new, gone = spelled_out(changes, subject(entries))
    placed = placement(changed(entries, new, gone))
    assert gone == ("",)
    for name, device in placed.items():
        assert device == next((d for key, d in changes.items() if is_inside(name, key)), "cuda:0")


@settings(max_examples=200, deadline=None)
@given(repairs(), st.sampled_from(GRAPH.names), st.dictionaries(st.sampled_from(GRAPH.names), CARD))
def test_a_block_that_moves_takes_nothing_with_it(case, name, blocks):
    whole, _, device = case
    entries = {key: d for key, d in whole.items() if key in ("", "model", "model.layers", "head")}
    entries |= blocks
    about = subject(entries)
    new, gone = spelled_out({name: device}, about)
    placed, before = placement(changed(entries, new, gone)), placement(entries)
    for tensor in STRUCTURE.tensors:
        assert placed[tensor] == (device if is_inside(tensor, name) else before[tensor])
    assert new[name] == device and all(is_inside(name, around) for around in gone)


def test_a_block_leaves_the_entry_around_it_where_all_beside_it_are_elsewhere():
    entries = {**EVEN, "model.layers": "cuda:0", "model.layers.0": "cuda:1"}
    del entries["model.layers.1"]
    change = {"model.layers.1": "cuda:1"}
    assert spelled_out(change, subject(entries)) == (change, ("model.layers",))
    assert spelled_out({"model.norm": "cuda:0"}, subject(EVEN)) == ({"model.norm": "cuda:0"}, ())


@settings(max_examples=200, deadline=None)
@given(repairs(), st.sampled_from(["model.layers.0", "model.layers.1.attn", "model.norm"]))
def test_all_of_a_module_goes_where_most_of_it_is(case, module):
    entries, _, _ = case
    about = subject(entries)
    held: dict[str, int] = {}
    for name, device in placement(entries).items():
        if is_inside(name, module):
            size = STRUCTURE.tensors[name].num_bytes
            held[device] = held.get(device, 0) + size
    found = joined_on_one_device(about, module)
    (device,) = set(found.values()) or {next(iter(held))}
    assert held[device] == max(held.values())
    placed = placement(changed(entries, found))
    assert {placed[name] for name in placed if is_inside(name, module)} == {device}
    # No entry is named that is there already.
    assert all(entries.get(key) != device for key in found)
    assert all(is_inside(key, module) for key in found)


# ------------------------------------------------------------------------------------- exceptions


@pytest.mark.parametrize(
    ("module", "found"),
    [
        ("model.layers.1.mlp", "model.layers.1"),
        ("model.layers.1", "model.layers.1"),
        ("model.layers.0", None),  # "model" itself, and no entry around that
        ("model.norm", None),  # without parts
        ("model.layers.2.attn", None),  # on the device of the entry around it
        ("head", None),
        ("model", None),
        ("", None),
    ],
)
def test_an_exception_is_an_entry_with_parts_in_one_of_another_device(module, found):
    entries = {
        "model": "cuda:0",
        "model.layers.1": "cuda:1",
        "model.layers.2": "cuda:0",
        "model.norm": "cuda:1",
        "head": "cuda:1",
    }
    assert exception_around(module, subject(entries)) == found


def test_exceptions_of_what_is_offloaded_and_in_it():
    entries = {
        "": "cuda:0",
        "model.layers": "cpu",
        "model.layers.0": "cuda:0",
        "model.layers.1": "cpu",
        "model.layers.2": "disk",
        "model.norm": "cuda:1",
        "head": "disk",
    }
    assert offload_exceptions(subject(entries)) == {
        "model.layers": "cpu",
        "model.layers.0": "cuda:0",
        "model.layers.2": "disk",
        "head": "disk",
    }
    assert offload_exceptions(subject(EVEN)) == {}


# ------------------------------------------------------------------------------------- mismatches


def operand(device: str, name: str | None = None) -> OperandFact:
    return OperandFact(
        argument="self", device=device, shape=(1,), dtype="float32", num_bytes=4, name=name
    )


def event(module: str, *operands: OperandFact) -> MismatchEvent:
    return MismatchEvent(
        op="aten.add.Tensor",
        message="apart",
        rule="same",
        module=module,
        source=None,
        operands=operands,
        phase="prefill",
    )


NEAR, FAR = operand("cuda:0"), operand("cuda:1")
SPLIT = {**EVEN, "model.layers.0.mlp": "cuda:1"}
AWAY = {**EVEN, "model.embed": "cuda:1"}


@pytest.mark.parametrize(
    ("entries", "met", "expected"),
    [
        # inside a block that the map splits
        (SPLIT, event("model.layers.0.attn.q", NEAR, FAR), {"model.layers.0": "cuda:1"}),
        # in an exception, whose own device is named again for `spelled_out`
        (
            {"": "cuda:0", "model.layers.1": "cuda:1"},
            event("model.layers.1.attn", NEAR, FAR),
            {"model.layers.1": "cuda:1"},
        ),
        # a tensor of the model that lies elsewhere: its block, to where the code runs
        (
            EVEN,
            event("model", NEAR, operand("cuda:1", "model.norm.weight")),
            {"model.norm": "cuda:0"},
        ),
        (
            EVEN,
            event("model.layers.1.mlp", FAR, operand("cuda:0", "model.embed.weight")),
            {"model.embed": "cuda:1"},
        ),
        (
            EVEN,
            event("", operand("cuda:1", "model.layers.2.scale"), operand("cuda:2", "head.bias")),
            {"model.layers.2": "cuda:0"},  # the head is there
        ),
        # an activation in a block: its code has to move it
        (EVEN, event("model.layers.1.attn", NEAR, FAR), {}),
        (EVEN, event("model.layers.1", NEAR, operand("cuda:1", "not.known")), {}),
        # between the blocks, with the embedding away
        (AWAY, event("model", NEAR, FAR), {"model.embed": "cuda:0"}),
        # between the blocks: what is made before the layers, else after them
        (EVEN, event("model", NEAR, FAR), {"model.rotary": "cuda:0"}),
        ({**EVEN, "model.rotary": "cuda:0"}, event("model", NEAR, FAR), {"model.norm": "cuda:0"}),
        ({**EVEN, "head": "cuda:1"}, event("", NEAR, FAR), {"model.rotary": "cuda:0"}),
        ({**EVEN, "head": "cuda:2"}, event("", NEAR, operand("cuda:2")), {"head": "cuda:0"}),
        (EVEN, event("model", NEAR, operand("cuda:2")), {}),
    ],
)
def test_entries_that_bring_operands_together(entries, met, expected):
    assert dict(entries_that_meet(met, subject(entries))) == expected


def test_a_weight_that_was_read_while_it_was_offloaded_is_kept_where_it_is_read():
    entries = {**EVEN, "model.norm": "cpu", "model.layers.2": "cpu", "model.layers.2.scale": "cpu"}
    for names, expected in (
        (["model.norm.weight"], {"model.norm": "cuda:0"}),
        (["model.norm.weight", "model.layers.2.mlp.bias"], {"model.layers.2", "model.norm"}),
        (["another"], {}),
    ):
        met = event("", NEAR, *(operand("meta", name) for name in names))
        found = entries_that_meet(met, subject(entries))
        assert set(found) == set(expected) and set(found.values()) <= {"cuda:0"}
    # A map that puts modules on meta itself is no map with offloaded weights.
    meta = {**entries, "model.norm": "meta"}
    met = event("model", NEAR, operand("meta", "model.norm.weight"))
    assert entries_that_meet(met, subject(meta)) == {"model.norm": "cuda:0"}


@pytest.mark.parametrize(
    ("met", "repair", "key"),
    [
        (event("model", NEAR, operand("cuda:1", "model.norm.weight")), {}, "model.norm"),
        (event("model", NEAR, FAR), {"model.rotary": "cuda:0"}, "model.rotary"),
        (event("model.layers.0.mlp", FAR, FAR), {}, "model.layers.0"),
        # nothing of this has an entry: the first that puts anything on the odd device
        (event("model", NEAR, FAR), {}, "model.rotary"),
        (event("model", NEAR, operand("cuda:2")), {}, None),
    ],
)
def test_the_entry_that_put_a_tensor_where_it_is(met, repair, key):
    entry = entry_behind(met, repair, subject(EVEN))
    assert (entry.key if entry else None) == key


def test_graphs_without_layers_have_blocks_too():
    graph = replace(GRAPH, blocks=GRAPH.blocks[:2] + GRAPH.blocks[5:], embedding=None)
    about = replace(subject(EVEN), structure=replace(STRUCTURE, graph=graph))
    assert entries_that_meet(event("model", NEAR, FAR), about) == {
        "model.norm": "cuda:0",
        "model.rotary": "cuda:0",
    }
