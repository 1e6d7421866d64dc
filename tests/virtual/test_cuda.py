"""What ``torch.cuda`` answers for cards that are not there."""

from __future__ import annotations

import threading

import pytest
import torch

from devplan.sandbox.holding import exclusive
from devplan.virtual.patches import VirtualCard, answering

OLD = VirtualCard(name="old", capability=(7, 5), total_bytes=11)
NEW = VirtualCard(name="new", capability=(9, 0), total_bytes=13)


def told(device) -> tuple:
    properties = torch.cuda.get_device_properties(device)
    return (
        torch.cuda.get_device_name(device),
        torch.cuda.get_device_capability(device),
        torch.cuda.mem_get_info(device),
        (properties.name, properties.major, properties.minor, properties.total_memory),
    )


@pytest.mark.parametrize(
    ("device", "card"),
    [
        (None, OLD),
        (0, OLD),
        (1, NEW),
        ("cuda", OLD),
        ("cuda:0", OLD),
        ("cuda:1", NEW),
        (torch.device("cuda", 1), NEW),
        (torch.device("cuda"), OLD),
    ],
)
def test_a_card_is_asked_for_in_every_way_that_torch_has(device, card):
    total = card.total_bytes
    expected = (card.name, card.capability, (total, total), (card.name, *card.capability, total))
    with exclusive(), answering((OLD, NEW)):
        assert told(device) == expected


def test_the_cards_are_there_free_and_the_first_is_the_current_one():
    with exclusive(), answering((OLD, NEW)):
        assert torch.cuda.is_available() and torch.cuda.is_initialized()
        assert torch.cuda.device_count() == 2
        torch.cuda.set_device(1)
        torch.cuda.synchronize(), torch.cuda.empty_cache()
        assert torch.cuda.current_device() == 0
        for asked in ("memory_allocated", "memory_reserved", "max_memory_allocated"):
            assert getattr(torch.cuda, asked)() == getattr(torch.cuda, asked)("cuda:1") == 0
        assert torch.cuda.get_device_properties(0).warp_size == 32


@pytest.mark.parametrize(
    ("capability", "has_it"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_bfloat16_is_there_from_8_0_on(capability, has_it):
    with exclusive(), answering((VirtualCard(capability=capability),)):
        assert torch.cuda.is_bf16_supported() is has_it
        assert torch.cuda.is_bf16_supported(including_emulation=False) is has_it


def test_compiled_code_is_the_code_itself():
    def double(x):
        return 2 * x

    with exclusive(), answering((OLD,)):
        assert torch.compile(double) is double
        assert torch.compile(double, dynamic=True) is double
        assert torch.compile(mode="max-autotune")(double) is double


def test_another_thread_and_later_code_hear_what_they_always_hear():
    before = torch.cuda.device_count()
    heard = []
    with exclusive(), answering((OLD,) * (before + 3)):
        other = threading.Thread(target=lambda: heard.append(torch.cuda.device_count()))
        other.start()
        other.join()
        assert torch.cuda.device_count() == before + 3
    assert heard == [before] and torch.cuda.device_count() == before
