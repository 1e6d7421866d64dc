"""What a map asks of the machine that it is applied to."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.device_map import Entry, device_map_of
from devplan.core.errors import InputError
from devplan.loader.target import device_map, refuse_inside_offloaded, target_of
from tests.report.example_plans import MAP_FILE

BARE = {"embed": "cuda:0", "layers": "cuda:1", "layers.3": "cpu", "head": "disk"}


def test_what_governs_a_module_and_where_it_lies_and_runs():
    target = target_of(BARE)
    assert target.main_device == "cuda:0" and target.hf_main_device == 0
    assert target.devices == {"cuda:0", "cuda:1", "cpu", "disk"}
    assert target.entry_of("layers.3.up").key == "layers.3"
    assert target.device_of("layers.30.up") == "cuda:1" and target.device_of("norm") is None
    assert target.entry_of("norm") is None
    lies = [target.is_offloaded(device) for device in ("cuda:1", "cpu", "disk")]
    assert lies == [False, True, True]
    runs = [target.execution_device(device) for device in ("cuda:1", "cpu", "disk")]
    assert runs == ["cuda:1", "cuda:0", "cuda:0"]
    assert target.static_bytes() == {}  # a bare map says nothing of bytes


def test_on_a_main_cpu_weights_run_where_they_lie():
    target = target_of({"": "cpu"})
    assert (target.main_device, target.is_offloaded("cpu")) == ("cpu", False)
    assert target.is_offloaded("disk")


@pytest.mark.parametrize(
    ("given", "devices", "hooks"),
    [
        ({"": 0}, None, False),
        ({"": "cpu"}, None, False),
        ({"a": 0, "b": 0}, None, False),
        ({"a": 0, "b": 1}, None, True),
        # two cards for which one device stands keep their hooks
        ({"a": 0, "b": 1}, {0: "cpu", 1: "cpu"}, True),
        ({"": 0}, {"cuda:0": "cpu"}, False),
    ],
)
def test_one_device_needs_no_hooks(given, devices, hooks):
    assert target_of(given, devices).needs_hooks is hooks


def test_devices_stand_in_for_cards():
    target = target_of(BARE, {0: "cpu", "cuda:1": "meta"})
    assert target.main_device == "cpu" and target.here("cuda:1") == "meta"
    assert target.here("disk") == "disk"
    assert device_map(BARE, devices={0: "cuda:3"}) == {
        "embed": 3,
        "layers": 1,
        "layers.3": "cpu",
        "head": "disk",
    }


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ({"cuda:7": "cpu"}, r"devices: cuda:7 is not a GPU of .*; it has cuda:0, cuda:1$"),
        ({"cpu": "cuda:0"}, "devices: cpu is not a GPU of"),
        ({0: "disk"}, 'nothing runs on disk, and cuda:0 is the main device of .*let "cpu" stand'),
        ("cpu", "cards of the map and what stands in for them"),
    ],
)
def test_bad_stand_ins_are_refused(devices, words):
    with pytest.raises(InputError, match=words):
        target_of(BARE, devices)


def test_bytes_of_a_map_that_was_written_are_counted_by_device():
    content = replace(MAP_FILE, offload_bytes={"cpu": 7})
    loads = {load.device: load.weight_bytes + load.buffer_bytes for load in content.loads}
    assert target_of(content).static_bytes() == {**loads, "cpu": 7}
    together = target_of(content, dict.fromkeys(loads, "cpu"))
    assert together.static_bytes() == {"cpu": sum(loads.values()) + 7}


@pytest.mark.parametrize(
    ("given", "refused"),
    [
        ({"layers": "cpu", "layers.3": 0, "x": 0}, True),
        ({"layers": "cpu", "layers.3": "cpu", "x": 0}, False),
        ({"layers": 0, "layers.3": "cpu"}, False),
        ({"": "disk", "layers.3": 0}, True),
        ({"layers": "cpu", "layers.3.up": 0, "x": 0}, True),
    ],
)
def test_an_entry_inside_an_offloaded_one_is_refused(given, refused):
    target = target_of(given)
    if refused:
        with pytest.raises(
            InputError, match=r"lies inside .*, and accelerate offloads all of that"
        ):
            refuse_inside_offloaded(target)
    else:
        refuse_inside_offloaded(target)


def test_an_entry_without_a_device_is_refused_with_its_line():
    given = device_map_of({"a": 0, "b": 0}, "m.yaml")
    wrong = Entry(key="b", device=None, written="x", problem="no such device", line=3)
    with pytest.raises(InputError, match=r"^m\.yaml:3: b: no such device$"):
        target_of(replace(given, entries=(given.entries[0], wrong)))
    nowhere = replace(wrong, line=None)
    with pytest.raises(InputError, match=r"^m\.yaml: b: no such device$"):
        target_of(replace(given, entries=(nowhere,)))
