"""Reading this machine: what the driver and torch answer is made up at their border, as texts."""

from __future__ import annotations

import ctypes
import os
import stat
from types import SimpleNamespace

import pytest

from devplan.core.units import GIB, MIB
from devplan.environment import driver, reading
from devplan.environment import torch_gpus as torch_cards
from devplan.environment.driver import cards_in, read_driver, uses_in, version_in
from devplan.environment.reading import machine_here, read_environment

CARDS = """\
0, NVIDIA GeForce RTX 3090, GPU-aaaaaaaa-0000-1111-2222-333333333333, 00000000:01:00.0, 24576, \
24252, 8.6, 550.54.14
1, NVIDIA GeForce RTX 4090, GPU-bbbbbbbb-0000-1111-2222-333333333333, 00000000:41:00.0, 24564, \
9564, 8.9, 550.54.14
"""
USES = "GPU-bbbbbbbb-0000-1111-2222-333333333333, 4711, /usr/bin/python3, 14996\n"
PROC = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN_PROC = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)
"""


# -------------------------------------------------------------------------------------- driver


def test_the_answer_of_nvidia_smi():
    cards, version = cards_in(CARDS)
    assert version == "550.54.14"
    assert [(c.index, c.name, c.free_bytes // MIB) for c in cards] == [
        (0, "NVIDIA GeForce RTX 3090", 24252),
        (1, "NVIDIA GeForce RTX 4090", 9564),
    ]
    assert cards[1].compute_capability == (8, 9)
    (use,) = uses_in(USES)
    assert (use.pid, use.name, use.held_bytes) == (4711, "/usr/bin/python3", 14996 * MIB)


@pytest.mark.parametrize(
    "text",
    ["", "No devices were found\n", "0, NVIDIA, [Unknown Error], [N/A], [N/A], [N/A], [N/A], 1\n"],
)
def test_rows_that_are_no_cards(text):
    assert cards_in(text)[0] == ()


def test_uses_without_numbers():
    assert uses_in("GPU-a, 4711, [Not Found], [N/A]\n") == ()


@pytest.mark.parametrize(
    "text, version", [(PROC, "550.54.14"), (OPEN_PROC, "580.65.06"), ("", None)]
)
def test_the_version_in_proc(text, version):
    assert version_in(text) == version


@pytest.fixture
def no_driver(monkeypatch, tmp_path):
    """A machine without a driver, whatever this one has."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(driver, "_PROC", tmp_path / "version")
    monkeypatch.setattr(driver, "latest_cuda", lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", None)
    return tmp_path


def program(folder, text: str):
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_driver_is_no_error(no_driver):
    assert read_driver() == driver.DriverFacts()


def test_through_the_program(no_driver):
    (no_driver / "cards").write_text(CARDS)
    (no_driver / "uses").write_text(USES)
    reads = f'while read -r line; do echo "$line"; done < {no_driver}'
    program(no_driver, f'case "$1" in --query-gpu*) {reads}/cards;; *) {reads}/uses;; esac')
    found = read_driver()
    assert (found.version, len(found.cards), len(found.uses)) == ("550.54.14", 2, 1)
    assert found.notes == ()


def test_a_program_that_fails_says_why(no_driver):
    program(no_driver, 'echo "NVIDIA-SMI has failed"; exit 9')
    assert read_driver().notes == ("nvidia-smi fails: NVIDIA-SMI has failed",)


def test_proc_alone_tells_the_version(no_driver):
    (no_driver / "version").write_text(PROC)
    found = read_driver()
    assert found.version == "550.54.14"
    assert "nvidia-smi was not found" in found.notes[0]


def test_through_nvml(no_driver, monkeypatch):
    answers = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlSystemGetDriverVersion=lambda: b"550.54.14",
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(total=24 * GIB, free=20 * GIB),
        nvmlDeviceGetName=lambda handle: "NVIDIA GeForce RTX 3090",
        nvmlDeviceGetUUID=lambda handle: b"GPU-a",
        nvmlDeviceGetPciInfo=lambda handle: SimpleNamespace(busId=b"00000000:01:00.0"),
        nvmlDeviceGetCudaComputeCapability=lambda handle: (8, 6),
    )
    monkeypatch.setitem(__import__("sys").modules, "pynvml", answers)
    found = read_driver()
    assert found.version == "550.54.14"
    assert found.cards[0].uuid == "GPU-a"
    assert found.cards[0].free_bytes == 20 * GIB


def test_the_latest_cuda_is_asked_of_the_drivers_library(monkeypatch):
    def get_version(pointer):
        pointer._obj.value = 12040
        return 0

    monkeypatch.setattr(
        ctypes, "CDLL", lambda name: SimpleNamespace(cuDriverGetVersion=get_version)
    )
    assert driver.latest_cuda() == (12, 4)


# --------------------------------------------------------------------------------------- torch


class Properties(SimpleNamespace):
    """Of `torch.cuda.get_device_properties`."""


def seen_by_torch(monkeypatch, *properties, peers=False):
    import torch

    cuda = torch.cuda
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(cuda, "is_available", lambda: bool(properties))
    monkeypatch.setattr(cuda, "device_count", lambda: len(properties))
    monkeypatch.setattr(cuda, "get_device_properties", lambda index: properties[index])
    monkeypatch.setattr(cuda, "get_arch_list", lambda: ["sm_80", "sm_90"])
    monkeypatch.setattr(cuda, "memory_reserved", lambda index: 0)
    monkeypatch.setattr(cuda, "can_device_access_peer", lambda a, b: peers)
    monkeypatch.setattr(cuda, "mem_get_info", lambda index: (5 * GIB, 24 * GIB))


def properties_of(name: str, uuid: str | None, **more) -> Properties:
    given = {"name": name, "total_memory": int(23.5 * GIB), "major": 8, "minor": 9, **more}
    return Properties(**given, **({"uuid": uuid} if uuid else {}))


def test_torch_and_driver_are_joined_by_uuid(monkeypatch):
    cards, _ = cards_in(CARDS)
    seen_by_torch(
        monkeypatch,
        properties_of("NVIDIA GeForce RTX 4090", "bbbbbbbb-0000-1111-2222-333333333333"),
        properties_of("NVIDIA GeForce RTX 3090", "aaaaaaaa-0000-1111-2222-333333333333"),
        peers=True,
    )
    facts = torch_cards.read_torch(cards)
    assert [(c.device, c.driver_index) for c in facts.cards] == [("cuda:0", 1), ("cuda:1", 0)]
    assert facts.cards[0].free_bytes == 9564 * MIB
    assert facts.cards[0].pci_bus_id == "00000000:41:00.0"
    assert facts.peers == {("cuda:0", "cuda:1"): True, ("cuda:1", "cuda:0"): True}
    assert (facts.cuda, facts.archs) == ("12.8", ("sm_80", "sm_90"))


def test_older_torch_has_no_uuid(monkeypatch):
    cards, _ = cards_in(CARDS)
    seen_by_torch(monkeypatch, properties_of("NVIDIA GeForce RTX 4090", None))
    assert torch_cards.read_torch(cards).cards[0].driver_index == 1


def test_without_a_driver_torch_itself_is_asked(monkeypatch):
    seen_by_torch(monkeypatch, properties_of("NVIDIA GeForce RTX 4090", None))
    (card,) = torch_cards.read_torch(()).cards
    assert card.free_bytes == 5 * GIB
    assert card.taken_bytes == int(18.5 * GIB)


def test_what_torch_warns_of_is_a_note(monkeypatch):
    import warnings

    import torch

    def is_available():
        warnings.warn("CUDA initialization: The NVIDIA driver is too old", stacklevel=1)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    (note,) = torch_cards.read_torch(()).notes
    assert note == "torch: CUDA initialization: The NVIDIA driver is too old"


def test_the_whole_machine(no_driver, monkeypatch):
    seen_by_torch(
        monkeypatch,
        properties_of("NVIDIA GeForce RTX 4090", None),
        properties_of("NVIDIA GeForce RTX 4090", None),
    )
    found = read_environment(no_driver / "not" / "there")
    assert [(link.source, link.target) for link in found.links] == [
        ("cuda:0", "cuda:1"),
        ("cuda:0", "cpu"),
        ("cuda:1", "cpu"),
    ]
    assert all(link.basis == "catalogue" for link in found.links)
    assert machine_here(found).devices == ("cuda:0", "cuda:1")
    assert found.disk_bytes > 0


# ---------------------------------------------------------------------------------------- host


def test_this_very_machine_can_be_read():
    found = read_environment()
    assert {"torch", "transformers", "accelerate", "safetensors", "devplan"} <= set(found.versions)
    assert found.python.count(".") == 2
    assert found.memory_bytes > 0
    assert found.offload_folder == "offload"


def test_variables_that_are_set_to_nothing_count():
    given = {"CUDA_VISIBLE_DEVICES": "", "HOME": "/root"}
    assert reading.set_variables(given) == {"CUDA_VISIBLE_DEVICES": ""}


def test_the_limit_of_a_container(monkeypatch, tmp_path):
    monkeypatch.setattr(reading, "_LIMIT", tmp_path / "max")
    monkeypatch.setattr(reading, "_HELD", tmp_path / "current")
    free = reading.available_memory()
    assert free > MIB
    (tmp_path / "max").write_text(f"{3 * MIB}\n")
    (tmp_path / "current").write_text(f"{2 * MIB}\n")
    assert reading.available_memory() == MIB
    (tmp_path / "max").write_text("max\n")
    assert reading.available_memory() > MIB


def test_the_configuration_of_accelerate_is_found_where_accelerate_looks(monkeypatch, tmp_path):
    from accelerate.commands.config import config_args

    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.delenv("ACCELERATE_CONFIG_FILE", raising=False)
    assert reading.accelerate_config() is None
    (tmp_path / "accelerate").mkdir()
    path = tmp_path / "accelerate" / os.path.basename(config_args.default_yaml_config_file)
    path.write_text("num_processes: 1\n")
    assert reading.accelerate_config() == str(path)
