"""``--links``: what joins the cards, as it is written, as the names tell, and as it is measured."""

from __future__ import annotations

import pytest

from devplan.catalog import gpus
from devplan.catalog import links as catalogue
from devplan.core.costs import Link
from devplan.core.errors import InputError
from devplan.core.types import Machine
from devplan.machine.gpu_facts import speed_of
from devplan.machine.links import link_between, with_links
from devplan.machine.parse import parse_gpus

GB = 10**9


def link(cards: str, links: str | None = None, ends=("cuda:0", "cuda:1")) -> Link:
    return link_between(parse_gpus(cards, links=links), *ends)


@pytest.mark.parametrize(
    ("cards", "name", "basis"),
    [
        ("2xa100-80gb", "NVLink", "catalogue"),
        ("2xh100", "NVLink", "catalogue"),
        ("2xa100-80gb-pcie", "PCIe 4.0 x16", "catalogue"),  # its bridge is bought extra
        ("2xl40s", "PCIe 4.0 x16", "catalogue"),
        ("2xrtx-4090", "PCIe 4.0 x16 through the host", "catalogue"),
        ("2xrtx-4060-ti", "PCIe 4.0 x8 through the host", "catalogue"),
        ("a100-80gb,h100", "PCIe 4.0 x16 through the host", "catalogue"),
        ("2x24GiB", "PCIe 4.0 x16 through the host", "assumed"),
        ("a100-80gb,24GiB", "PCIe 4.0 x16 through the host", "assumed"),
    ],
)
def test_by_the_names_of_the_cards(cards, name, basis):
    found = link(cards)
    assert (found.name, found.basis) == (name, basis)


@pytest.mark.parametrize(
    ("links", "name"),
    [
        ("pcie3x8", "PCIe 3.0 x8"),
        ("PCIe5x16-host", "PCIe 5.0 x16 through the host"),
        ("host", "PCIe 4.0 x16 through the host"),
        ("peer", "PCIe 4.0 x16"),
        ("nvlink", "NVLink"),
        ("nvlink3", "NVLink 3"),
        (" 0-1 : nvlink3 ".replace(" ", ""), "NVLink 3"),
        ("pcie3x4,0-1:nvlink", "NVLink"),
        ("50GB/s", "50 GB/s"),
    ],
)
def test_as_written(links, name):
    found = link("2xrtx-3090", links)
    assert (found.name, found.basis) == (name, "given")


def test_one_direction_and_what_copies_reach():
    assert link("2x24GiB", "pcie4x16").bytes_per_s == pytest.approx(0.86 * 31.5 * GB, rel=0.01)
    assert link("2x24GiB", "nvlink3").bytes_per_s == pytest.approx(0.84 * 300 * GB)
    # A bridge has fewer links than a board of its generation.
    assert link("2xrtx-3090", "nvlink3").bytes_per_s == pytest.approx(0.84 * 56.25 * GB)
    assert link("2x24GiB", "50GB/s").bytes_per_s == 50 * GB
    copy = link("2x24GiB", "10GB/s")
    assert copy.seconds(10 * GB, 2) == pytest.approx(1 + 2 * copy.latency_s)


def test_groups_pairs_and_the_host():
    machine = parse_gpus("4x24GiB", links="0-1-2:nvlink3,0-cpu:pcie3x8,pcie4x8-host")
    names = {frozenset((each.source, each.target)): each.name for each in machine.links}
    assert len(names) == len(machine.links) == 10
    for pair in (("cuda:0", "cuda:1"), ("cuda:0", "cuda:2"), ("cuda:1", "cuda:2")):
        assert names[frozenset(pair)] == "NVLink 3"
    assert names[frozenset(("cuda:0", "cuda:3"))] == "PCIe 4.0 x8 through the host"
    assert names[frozenset(("cuda:0", "cpu"))] == "PCIe 3.0 x8"
    assert names[frozenset(("cuda:1", "cpu"))] == "PCIe 4.0 x8"
    assert link_between(machine, "disk", "cuda:1").name == "PCIe 4.0 x8"


def test_indices_are_the_devices():
    machine = parse_gpus("1,3", memory="24GiB", links="1-3:nvlink4")
    assert link_between(machine, "cuda:3", "cuda:1").name == "NVLink 4"


@pytest.mark.parametrize(
    ("cards", "links", "said"),
    [
        ("2x24GiB", "", ["empty", "pcie4x16"]),
        ("2x24GiB", "pcie4x16,", ["empty"]),
        ("2x24GiB", "fast", ["fast", "nvlink4", "50GB/s"]),
        ("2x24GiB", "pcie6x16", ["pcie6x16", "3, 4 and 5"]),
        ("2x24GiB", "pcie4x3", ["pcie4x3", "16"]),
        ("2x24GiB", "nvlink9", ["nvlink9", "2, 3, 4 and 5"]),
        ("2x24GiB", "nvlink", ["cuda:0", "24GiB", "nvlink3"]),
        ("a100-80gb,rtx-4090", "nvlink", ["cuda:1", "rtx-4090", "0-1:nvlink"]),
        ("2x24GiB", "pcie3x8,host", ["two links", "0-1:nvlink"]),
        ("2x24GiB", "0-1:host,1-0:peer", ["cuda:0 and cuda:1", "two links"]),
        ("2x24GiB", "0-2:nvlink3", ["2 is not a GPU", "0, 1 and cpu"]),
        ("2x24GiB", "1-1:nvlink3", ["itself"]),
        ("2x24GiB", "50", ["50", "50GB/s"]),
        ("2x24GiB", "0GB/s", ["0gb/s", "not a link"]),
        ("2x24GiB", "measured,host", ["measured stands alone"]),
        ("2x24GiB", "measured", ["cuda:0 (24GiB)", "--links pcie4x16"]),
        ("2x24GiB", "0-1:", ["not a link"]),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(cards, links, said):
    with pytest.raises(InputError) as caught:
        parse_gpus(cards, links=links)
    message = str(caught.value)
    assert message.startswith("--links") and "\n" not in message
    assert all(words in message for words in said), message


def test_a_machine_without_links_has_the_assumed_ones():
    bare = Machine(cards=parse_gpus("2x24GiB").cards, main_device="cuda:0")
    found = link_between(bare, "cuda:0", "cuda:1")
    assert found == with_links(bare).links[0]
    assert found.basis == "assumed"


def test_the_catalogue_knows_each_gpus_own_links():
    """Figures of cards agree with those of the generations that they can have."""
    boards = {600: 3, 900: 4, 1800: 5, 300: 2}
    for name in gpus.gpu_ids():
        gpu = gpus.find_gpu(name)
        assert (gpu.nvlink_reach is None) == (gpu.nvlink_gb_s is None), name
        if gpu.nvlink_reach == "board" and not gpu.name.startswith("AMD"):
            assert catalogue.nvlink_gb_s(boards[gpu.nvlink_gb_s]) == gpu.nvlink_gb_s
        if gpu.name.startswith("NVIDIA GeForce"):
            assert gpu.pcie_peer is False


def test_speeds_are_known_of_every_card_and_plausible():
    """Flops a byte: from a T4's 200 to an RTX Pro's 300; a slip of a digit falls out."""
    for name in gpus.gpu_ids():
        gpu, (card,) = gpus.find_gpu(name), parse_gpus(name).cards
        assert 30 < gpu.tflops * 1000 / gpu.bandwidth_gb_s < 500, name
        speed = speed_of(card)
        assert speed.bytes_per_s < gpu.bandwidth_gb_s * GB
        assert speed.seconds(0, speed.bytes_per_s) == 1
    assert speed_of(parse_gpus("24GiB").cards[0]) is None


@pytest.mark.gpu
def test_links_of_this_machine_are_measured():
    import torch

    machine = parse_gpus("all", links="measured")
    num_cards = torch.cuda.device_count()
    assert len(machine.links) == num_cards * (num_cards + 1) // 2
    for each in machine.links:
        assert each.basis == "measured"
        assert 10**8 < each.bytes_per_s < 10**13
        assert 0 < each.latency_s < 0.01
