"""Devices at the border to hf_device_map, and placements to entries and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.core.devices import from_hf_device_map, order_entries, to_hf_device_map
from devplan.core.errors import InputError
from devplan.core.names import find_entry, is_inside
from devplan.mapfile.of_plan import contract_entries, covering_modules
from tests.report.example_plans import MAP_FILE, PLACEMENT, VISION


class FakeTorchDevice:
    """As `torch.device` looks to whom does not import torch."""

    def __init__(self, kind, index):
        self.type, self.index = kind, index

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"


@pytest.mark.parametrize(
    ("value", "device"),
    [
        (0, "cuda:0"),
        (11, "cuda:11"),
        ("cuda:1", "cuda:1"),
        ("cuda", "cuda:0"),
        ("cpu", "cpu"),
        ("disk", "disk"),
        ("mps", "mps"),
        ("xpu:0", "xpu:0"),
        ("npu", "npu:0"),
        (FakeTorchDevice("cuda", 3), "cuda:3"),
        (FakeTorchDevice("cpu", None), "cpu"),
    ],
)
def test_from_hf(value, device):
    assert from_hf_device_map({"model": value}) == {"model": device}


def test_from_hf_takes_torch_devices():
    torch = pytest.importorskip("torch")
    assert from_hf_device_map({"a": torch.device("cuda", 2)}) == {"a": "cuda:2"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("1", "'1' is text, and torch knows no device of that name; write 1"),
        (-1, "-1 is not a device index"),
        (True, "True is not a device"),
        (None, "None is not a device"),
        (1.0, "1.0 is not a device"),
        ("cuda:-1", "'cuda:-1' is not a device"),
        ("cuda:01", "'cuda:01' is not a device"),
        ("cuda:1\n", "is not a device"),
        ("cdua:1", "did you mean cuda"),
        ([], "[] is not a device"),
    ],
)
def test_from_hf_refuses(value, words):
    with pytest.raises(InputError) as caught:
        from_hf_device_map({"model.head": value})
    assert words in str(caught.value)
    assert "'model.head'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_from_hf_refuses_names_that_are_no_text():
    with pytest.raises(InputError, match="quotes"):
        from_hf_device_map({1.0: 0})


def test_only_cuda_becomes_an_integer():
    devices = {"a": "cuda:2", "b": "cpu", "c": "disk", "d": "xpu:0", "e": "mps"}
    assert to_hf_device_map(devices) == {"a": 2, "b": "cpu", "c": "disk", "d": "xpu:0", "e": "mps"}
    assert from_hf_device_map(to_hf_device_map(devices)) == devices


def test_order_keeps_everything_but_the_first():
    order = order_entries({"a": "cuda:1", "b": "cpu", "c": "cuda:0", "d": "cuda:0"}, "cuda:0")
    assert list(order) == ["c", "a", "b", "d"]
    assert list(order_entries({"a": "cuda:1"}, "cuda:0")) == ["a"]


# ------------------------------------------------------------------------------------ contract


def test_vision_tower_is_one_entry_and_a_split_stack_is_not():
    entries = contract_entries(PLACEMENT)
    assert entries["model.visual"] == "cuda:0"
    assert "model.language_model.layers" not in entries
    assert entries["model.language_model.layers.16"] == "cuda:0"
    assert entries["model.language_model.layers.17"] == "cuda:1"
    assert len(entries) == len(PLACEMENT) - len(VISION) + 1
    assert next(iter(entries)) == "model.language_model.embed_tokens"


def test_one_device_is_one_entry():
    assert contract_entries(dict.fromkeys(PLACEMENT, "cuda:0")) == {"": "cuda:0"}


def test_a_number_is_no_prefix():
    entries = contract_entries({"a.1": "cuda:0", "a.10": "cuda:1", "a.11": "cuda:1"})
    assert entries == {"a.1": "cuda:0", "a.10": "cuda:1", "a.11": "cuda:1"}


def expand_entries(device_map, block_names):
    """Device of every block under a map: the longest entry around it decides."""
    return {block: device_map[find_entry(device_map, block)] for block in block_names}


def test_a_block_around_others_keeps_its_own_entry():
    placement = {"a": "cuda:0", "a.b": "cuda:1", "a.c": "cuda:0"}
    assert expand_entries(contract_entries(placement), placement) == placement


parts = st.sampled_from(["a", "b", "1", "10", "layers"])
names = st.lists(parts, min_size=1, max_size=4).map(".".join)
placements = st.dictionaries(names, st.sampled_from(["cuda:0", "cuda:1", "cpu"]), min_size=1)


def without_nesting(placement):
    return {
        name: device
        for name, device in placement.items()
        if not any(other != name and is_inside(name, other) for other in placement)
    }


@given(placements.map(without_nesting))
def test_expand_undoes_contract(placement):
    entries = contract_entries(placement)
    assert expand_entries(entries, placement) == placement
    assert len(entries) <= len(placement)


@given(placements.map(without_nesting))
def test_no_shorter_map_without_overlaps(placement):
    """Joining what lies inside any module around two entries would change the placement."""
    entries = contract_entries(placement)
    modules = {name.rpartition(".")[0] for name in entries if name}
    for module in modules:
        devices = {entries[entry] for entry in entries if is_inside(entry, module)}
        assert len(devices) > 1, (module, entries)


def test_expand_takes_overlaps_the_longest_wins():
    device_map = {"": "cuda:0", "layers": "cuda:1", "layers.1": "cpu"}
    assert expand_entries(device_map, ["head", "layers.0", "layers.1", "layers.10"]) == {
        "head": "cuda:0",
        "layers.0": "cuda:1",
        "layers.1": "cpu",
        "layers.10": "cuda:1",
    }


def test_covering_modules():
    blocks = ["v.0", "v.1", "l.0", "l.1"]
    assert covering_modules(["v.0", "v.1", "l.1"], blocks) == ["v", "l.1"]
    assert covering_modules(blocks, blocks) == [""]
    assert covering_modules([], blocks) == []


def test_transformers_reads_the_contracted_map_as_the_placement():
    """transformers matches entries by a regular expression of its own, not by dotted names."""
    integration = pytest.importorskip("transformers.integrations.accelerate")
    expand = getattr(integration, "expand_device_map", None)
    if expand is None:
        pytest.skip("this transformers has no expand_device_map there")
    parameters = [f"{block}.weight" for block in PLACEMENT]
    devices = expand(to_hf_device_map(MAP_FILE.device_map), parameters)
    assert from_hf_device_map(devices) == {
        f"{block}.weight": device for block, device in PLACEMENT.items()
    }
