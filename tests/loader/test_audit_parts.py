"""The parts of an audit by themselves: places, waiting weights, ties, and what a device holds."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from devplan.core.device_map import Entry
from devplan.core.findings import DeviceUsage, Finding, Severity
from devplan.core.types import OFFLOAD_DEVICES
from devplan.loader.auditing import (
    Audit,
    _problem,
    audit_line,
    buffer_bytes_left_behind,
    memory_differences,
    placed_bytes,
    tied_pairs,
    usage_line,
    uses_of,
)
from devplan.loader.dispatching import link_ties
from devplan.virtual.hooks import OffloadedTensors

META = torch.empty(3, device="meta")


def waiting(on_cpu=(), on_disk=(), folder=None) -> OffloadedTensors:
    index = {name: dict(place) for name, place in dict(on_disk).items()}
    return OffloadedTensors(
        SimpleNamespace(state_dict=dict(on_cpu), index=index, save_folder=folder)
    )


def target(**devices: str):
    return SimpleNamespace(
        device_of=devices.get,
        is_offloaded=lambda device: device in OFFLOAD_DEVICES and device != "cpu",
        main_device="cpu",
        needs_hooks=True,
        static_bytes=lambda: {"cpu": 12, "cuda:1": 7},
    )


# ------------------------------------------------------------------------------------- waiting


def test_a_weight_waits_where_its_values_are(tmp_path):
    (tmp_path / "there.dat").write_bytes(b"x")
    (tmp_path / "x.safetensors").write_bytes(b"x")
    inside = {"safetensors_file": str(tmp_path / "x.safetensors"), "weight_name": "a"}
    found = waiting(
        {"here": torch.ones(2), "empty": META},
        {
            "there": {},
            "gone": {},
            "inside": inside,
            "lost": {**inside, "safetensors_file": str(tmp_path / "no")},
        },
        tmp_path,
    )
    tiers = {name: found.tier(name) for name in ("here", "empty", "there", "gone", "inside")}
    assert tiers == {"here": "cpu", "empty": None, "there": "disk", "gone": None, "inside": "disk"}
    assert found.tier("lost") is None and found.tier("unknown") is None
    assert (
        OffloadedTensors(None).tier("here") is None
        and OffloadedTensors(None).identity("here") is None
    )


def test_names_of_one_tensor_wait_as_one(tmp_path):
    one = torch.ones(2)
    for name in ("a", "c"):
        (tmp_path / f"{name}.dat").write_bytes(b"x")
    os.link(tmp_path / "a.dat", tmp_path / "b.dat")
    stored = {"safetensors_file": str(tmp_path / "x"), "weight_name": "w"}
    found = waiting(
        {"p": one, "q": one, "r": torch.ones(2)},
        {
            **{name: {} for name in ("a", "b", "c", "gone", "lost")},
            "s": stored,
            "t": stored,
            "u": {**stored, "weight_name": "v"},
        },
        tmp_path,
    )
    same = [("p", "q"), ("a", "b"), ("s", "t")]
    other = [("p", "r"), ("a", "c"), ("s", "u"), ("gone", "lost"), ("p", "a")]
    assert all(found.identity(x) == found.identity(y) for x, y in same)
    assert all(found.identity(x) != found.identity(y) for x, y in other)
    assert found.identity("unknown") is None


# -------------------------------------------------------------------------------------- places


PARAMETER = nn.Parameter(torch.ones(3))


@pytest.mark.parametrize(
    ("tensor", "wanted", "waits", "problem"),
    [
        (PARAMETER, "cpu", None, None),
        (PARAMETER, None, None, ("place", "is on cpu, and no entry of the map says where")),
        (PARAMETER, "cuda:1", None, ("place", "is on cpu, not on cuda:1")),
        (META, "cuda:1", None, ("meta", "is on meta, without values, not on cuda:1")),
        (META, "cuda:1", "cpu", ("place", "was offloaded to cpu and should be on cuda:1")),
        (META, "disk", "disk", None),
        (META, "disk", None, ("meta", "is on meta without values; it should be offloaded to disk")),
        (META, "disk", "cpu", ("place", "is offloaded to cpu, not on disk")),
        (PARAMETER, "disk", None, ("place", "is on cpu and should be offloaded to disk")),
        (torch.ones(3), "disk", None, None),  # a buffer lies where its module runs
    ],
)
def test_what_is_wrong_with_the_place_of_a_tensor(tmp_path, tensor, wanted, waits, problem):
    (tmp_path / "x.dat").write_bytes(b"x")
    places = {
        None: waiting(),
        "cpu": waiting({"x": torch.ones(3)}),
        "disk": waiting((), {"x": {}}, tmp_path),
    }
    found = _problem("x", tensor, places[waits], target(**({"x": wanted} if wanted else {})))
    assert found == problem


def test_a_buffer_elsewhere_than_where_its_module_runs_is_misplaced():
    about = target(x="disk")
    about.main_device = "cuda:0"
    assert _problem("x", torch.ones(3), waiting(), about) == (
        "place",
        "is on cpu and should be offloaded to disk",
    )


# --------------------------------------------------------------------------------------- bytes


def test_each_storage_counts_once_on_each_device():
    one, other = torch.ones(3), torch.ones(2, dtype=torch.float16)
    tensors = (("a", one), ("b", one), ("c", other), ("m", META), ("n", META), ("o", META))
    found = waiting({"m": one, "n": torch.ones(5)})
    # m waits on the CPU as what lies there; o has no values at all.
    assert placed_bytes(tensors, found) == {"cpu": 12 + 4 + 12, "meta": 12}
    assert placed_bytes((("o", META), ("o2", META)), waiting()) == {"meta": 24}


def test_buffers_of_offloaded_modules_stay():
    one = torch.ones(3)
    tensors = (("a", one), ("b", one), ("c", torch.ones(4)), ("d", torch.ones(5)), ("m", META))
    about = target(a="disk", b="disk", c="cpu", m="disk")
    assert buffer_bytes_left_behind(tensors, about) == {"cpu": 12}


def test_every_device_is_told_beside_what_was_foretold():
    first, second, third = uses_of({"cpu": 12, "meta": 3}, target())
    assert (first.device, first.predicted_bytes, first.placed_bytes) == ("cpu", 12, 12)
    assert (second.device, second.predicted_bytes, second.placed_bytes) == ("cuda:1", 7, 0)
    assert (third.device, third.predicted_bytes, third.placed_bytes) == ("meta", None, 3)
    assert first.allocated_bytes is None


@pytest.mark.parametrize(
    ("device", "predicted", "placed", "left_behind", "is_more"),
    [
        ("cuda:0", 1000, 1010, 0, False),
        ("cuda:0", 1000, 1011, 0, True),
        ("cuda:0", 1000, 10, 0, False),
        ("cuda:0", 900, 1010, 100, False),
        ("cuda:0", 900, 1011, 100, True),
        ("cuda:0", 0, 1, 0, True),
        ("cuda:0", None, 10**9, 0, False),
        ("meta", 0, 10**9, 0, False),
    ],
)
def test_more_than_was_foretold(device, predicted, placed, left_behind, is_more):
    use = DeviceUsage(device=device, predicted_bytes=predicted, placed_bytes=placed)
    found = list(memory_differences([use], {device: left_behind}))
    assert [(each.code, each.module) for each in found] == ([("memory", device)] if is_more else [])
    for each in found:
        assert each.message.startswith(f"{device} holds ")
        assert f"the map foretells {predicted + left_behind} B" in each.message


# ---------------------------------------------------------------------------------------- words


def test_how_an_audit_is_told():
    entry = Entry(key="model", device="cuda:0", written="0", file="m.yaml", line=4)
    plain = Finding(
        code="hook", severity=Severity.ERROR, module="", message="the whole model has no hook"
    )
    placed = Finding(
        code="place", severity=Severity.ERROR, module="a", message="a is on cpu", entry=entry
    )
    bare = Finding(
        code="place",
        severity=Severity.ERROR,
        module="a",
        message="a is on cpu",
        entry=Entry(key="model", device="cuda:0", written="0"),
    )
    assert audit_line(plain) == "the whole model has no hook"
    assert audit_line(placed) == "m.yaml:4: model: 0: a is on cpu"
    assert audit_line(bare) == "model: 0: a is on cpu"
    use = DeviceUsage(device="cuda:0", predicted_bytes=None, placed_bytes=12)
    full = DeviceUsage(device="cuda:0", predicted_bytes=0, placed_bytes=12, allocated_bytes=0)
    assert usage_line(use) == "cuda:0: 12 B of weights and buffers"
    assert usage_line(full) == f"{usage_line(use)}, 0 B predicted, 0 B allocated by PyTorch"
    clean = Audit(map_name="m.yaml", findings=(), uses=(use,), num_tensors=3)
    assert clean.is_clean and str(clean) == f"m.yaml: 3 tensors, no differences\n{usage_line(use)}"
    wrong = Audit(map_name="m.yaml", findings=(plain, placed), uses=(), num_tensors=3)
    assert not wrong.is_clean
    assert (
        str(wrong) == f"m.yaml: 3 tensors, 2 differences\n{audit_line(plain)}\n{audit_line(placed)}"
    )


# ----------------------------------------------------------------------------------------- ties


class Tied(nn.Module):
    """As before transformers 5: the configuration says it, and no list."""

    def __init__(self, tie: bool, *, nested: bool = False, has_head: bool = True) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(4, 2), nn.Linear(2, 4)
        text = SimpleNamespace(tie_word_embeddings=tie)
        self.config = SimpleNamespace(get_text_config=lambda decoder: text) if nested else text
        self._has_head = has_head

    def get_input_embeddings(self):
        return self.embed

    def get_output_embeddings(self):
        return self.head if self._has_head else None


def test_ties_that_a_class_declares():
    pair = {"head.weight": "embed.weight"}
    assert tied_pairs(Tied(True)) == pair and tied_pairs(Tied(True, nested=True)) == pair
    for model in (Tied(False), Tied(True, has_head=False), nn.Linear(1, 1)):
        assert tied_pairs(model) == {}
    listed = Tied(False)
    listed.all_tied_weights_keys = {"a": "b"}
    assert tied_pairs(listed) == {"a": "b"}


@pytest.mark.parametrize("links", [True, False])
def test_files_of_one_tensor_become_one_file(tmp_path, monkeypatch, links):
    if not links:

        def fail(*_):
            raise OSError("no hard links here")

        monkeypatch.setattr("os.link", fail)
    for name in ("a", "b", "c", "alone"):
        (tmp_path / f"{name}.dat").write_text(name)
    link_ties([("none", "a", "b"), ("nothing", "at all"), ("alone",)], tmp_path)
    link_ties([("a", "b", "c")], tmp_path)
    contents = {path.stem: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {"a": "a", "b": "a", "c": "a", "alone": "alone"}
    assert (tmp_path / "b.dat").samefile(tmp_path / "a.dat")
    assert (tmp_path / "b.dat").is_symlink() is not links
