"""The GPU catalogue: complete entries, forgiving names, honest capacities."""

from __future__ import annotations

import pytest

from devplan.catalog import gpus
from devplan.catalog.gpus import find_gpu, gpu_ids
from devplan.core.errors import InputError
from devplan.core.units import GIB, MIB


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("rtx-4090", "rtx-4090"),
        ("RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("RTX-4090-24GB", "rtx-4090"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("3060", "rtx-3060-12gb"),
        ("RTX4060Ti 16 GB", "rtx-4060-ti-16gb"),
        ("a100-80gb", "a100-80gb"),
        ("A100-SXM4-80GB", "a100-80gb"),
        ("a100 80 GiB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb-pcie"),
        ("h100", "h100"),
        ("H100-SXM5-80GB", "h100"),
        ("h100 nvl", "h100-nvl"),
        ("a10", "a10"),
        ("a10g", "a10g"),
        ("l40", "l40"),
        ("L40S", "l40s"),
        ("Tesla T4", "t4"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_names_are_looked_up_forgivingly(typed, expected):
    assert find_gpu(typed).id == expected


@pytest.mark.parametrize("key", gpu_ids())
def test_every_card_is_found_by_each_of_its_names(key):
    gpu = find_gpu(key)
    assert gpu.id == key
    for name in (gpu.name, gpu.name.upper(), *gpu.aliases, gpu.id.replace("-", " ")):
        assert find_gpu(name).id == key


@pytest.mark.parametrize(
    ("typed", "candidates"),
    [
        ("a100", ["a100-40gb", "a100-40gb-pcie", "a100-80gb", "a100-80gb-pcie"]),
        ("v100", ["v100-16gb", "v100-32gb"]),
        ("rtx 6000", ["rtx-6000-ada", "rtx-pro-6000"]),
    ],
)
def test_an_ambiguous_name_is_refused_with_all_candidates(typed, candidates):
    with pytest.raises(InputError) as caught:
        find_gpu(typed)
    assert typed in str(caught.value)
    assert all(candidate in str(caught.value) for candidate in candidates)


@pytest.mark.parametrize(("typed", "near"), [("rtx-4091", "rtx-4090"), ("a100-90gb", "a100-80gb")])
def test_an_unknown_name_is_refused_with_the_nearest(typed, near):
    with pytest.raises(InputError) as caught:
        find_gpu(typed)
    assert typed in str(caught.value)
    assert near in str(caught.value)


@pytest.mark.parametrize("typed", ["", "  ", "nvidia", "geforce", "foo"])
def test_a_name_without_meaning_is_refused_in_one_line(typed):
    with pytest.raises(InputError) as caught:
        find_gpu(typed)
    assert "24GiB" in str(caught.value)  # the form that always works
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", gpu_ids())
def test_the_three_figures_of_memory_are_in_order(key):
    gpu = find_gpu(key)
    known = [mib for mib in (gpu.torch_mib, gpu.driver_mib) if mib is not None]
    assert known == sorted(known)  # torch never sees more than the driver reports
    if gpu.torch_mib and gpu.driver_mib:
        assert 0.95 < gpu.torch_mib / gpu.driver_mib < 1
    if gpu.driver_mib:
        # The box counts GB or GiB as it likes, and ECC takes a sixteenth.
        assert 0.93 < gpu.driver_mib * MIB / (gpu.marketed_gb * 10**9) < 1.08


@pytest.mark.parametrize("key", gpu_ids())
def test_every_card_has_its_facts(key):
    gpu = find_gpu(key)
    assert gpu.source
    assert gpu.bandwidth_gb_s > 100
    assert gpu.pcie_gen in (3, 4, 5)
    assert gpu.pcie_lanes in (None, 8, 16)
    assert gpu.bf16_tflops is None or gpu.bf16_tflops > 10
    assert gpu.nvlink_gb_s is None or gpu.nvlink_gb_s >= 100
    assert (gpu.compute_capability is None) == gpu.name.startswith("AMD")
    if gpu.compute_capability is not None and gpu.compute_capability < (8, 0):
        assert gpu.bf16_tflops is None  # bfloat16 came with Ampere


def test_the_capacity_is_the_best_figure_known():
    assert find_gpu("rtx-4090").capacity_source == "torch"
    assert find_gpu("rtx-4090").capacity_bytes == 24081 * MIB
    assert find_gpu("a40").capacity_source == "driver"
    assert find_gpu("a40").capacity_bytes == 46068 * MIB
    assert find_gpu("mi210").capacity_source == "marketed"
    assert find_gpu("mi210").capacity_bytes == 64 * GIB


def test_the_catalogue_covers_the_cards_people_have():
    wanted = (
        "3060 3090 4060-ti 4070-ti 4080 4090 5080 5090 a10 a10g a16 a30 a40 a100-40gb a100-80gb"
    )
    wanted += " a6000 rtx-6000-ada rtx-pro-6000 l4 l40 l40s t4 v100-16gb v100-32gb h100 h100-pcie"
    wanted += " h100-nvl h200 h20 b200 gh200 mi210 mi250x mi300x"
    assert len({find_gpu(name).id for name in wanted.split()}) == len(wanted.split())


def test_the_file_is_read_once():
    assert gpus._all() is gpus._all()
