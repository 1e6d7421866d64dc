"""``--gpus`` and its sisters: what they mean, and what is refused with which words."""

from __future__ import annotations

import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devplan.catalog import gpus as catalogue
from devplan.core.errors import InputError
from devplan.core.types import OffloadTier
from devplan.core.units import GIB, MIB
from devplan.machine.label import machine_label
from devplan.machine.parse import parse_gpus
from devplan.machine.reserve import DEFAULT_BYTES, default_reserve


def message_of(gpus, **options) -> str:
    with pytest.raises(InputError) as caught:
        parse_gpus(gpus, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def devices_and_gib(machine):
    return [(card.device, card.capacity_bytes / GIB) for card in machine.cards]


@pytest.fixture
def local_gpus(monkeypatch):
    """Makes torch see GPUs of the given names and sizes in MiB."""
    import torch

    def install(*cards):
        found = [SimpleNamespace(name=name, total_memory=mib * MIB) for name, mib in cards]
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(found))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found[index])

    return install


# ------------------------------------------------------------------------------------- meaning


def test_sizes_are_cards_in_order():
    machine = parse_gpus("24GiB, 12 gib")
    assert devices_and_gib(machine) == [("cuda:0", 24), ("cuda:1", 12)]
    assert [card.name for card in machine.cards] == ["24GiB", "12GiB"]
    assert machine.main_device == "cuda:0"
    assert machine.tiers == ()


def test_a_decimal_size_is_decimal():
    assert parse_gpus("24GB").cards[0].capacity_bytes == 24 * 10**9


def test_counts_and_catalogue_names_mix():
    machine = parse_gpus("2xA100-80GB,rtx-4090")
    assert [card.name for card in machine.cards] == ["a100-80gb", "a100-80gb", "rtx-4090"]
    assert machine.devices == ("cuda:0", "cuda:1", "cuda:2")
    assert machine.cards[2].capacity_bytes == catalogue.find_gpu("4090").capacity_bytes


def test_indices_read_the_driver_and_keep_their_numbers(local_gpus):
    local_gpus(("A", 24081), ("B", 12036), ("C", 81038), ("D", 46068))
    machine = parse_gpus("3,cuda:1")
    assert machine.devices == ("cuda:3", "cuda:1")
    assert [card.name for card in machine.cards] == ["D", "B"]
    assert [card.capacity_bytes for card in machine.cards] == [46068 * MIB, 12036 * MIB]
    assert machine.main_device == "cuda:3"


def test_other_cards_take_the_lowest_free_numbers(local_gpus):
    local_gpus(("A", 8192), ("B", 8192), ("C", 8192))
    machine = parse_gpus("24GiB,1,12GiB,rtx-4090")
    assert machine.devices == ("cuda:0", "cuda:1", "cuda:2", "cuda:3")
    assert parse_gpus("2,24GiB,0,12GiB").devices == ("cuda:2", "cuda:1", "cuda:0", "cuda:3")


@pytest.mark.parametrize("word", ["all", "auto", " ALL "])
def test_all_takes_every_local_gpu(local_gpus, word):
    local_gpus(("A", 24081), ("B", 12036))
    assert parse_gpus(word).devices == ("cuda:0", "cuda:1")


def test_memory_plans_for_cards_elsewhere():
    assert devices_and_gib(parse_gpus("2,3", memory="24GiB,12GiB")) == [
        ("cuda:2", 24),
        ("cuda:3", 12),
    ]
    assert devices_and_gib(parse_gpus("0,1", memory="24GiB")) == [("cuda:0", 24), ("cuda:1", 24)]
    assert devices_and_gib(parse_gpus("0,1", memory="2x24GiB")) == [("cuda:0", 24), ("cuda:1", 24)]
    assert [card.name for card in parse_gpus("4,7", memory="rtx-4090,l4").cards] == [
        "rtx-4090",
        "l4",
    ]


def test_memory_is_for_the_indices_only():
    machine = parse_gpus("5,24GiB,0", memory="8GiB,10GiB")
    assert devices_and_gib(machine) == [("cuda:5", 8), ("cuda:1", 24), ("cuda:0", 10)]


@pytest.mark.parametrize("main", ["1", "cuda:1", " CUDA:1 "])
def test_the_main_device_can_be_named(main):
    assert parse_gpus("24GiB,12GiB", main=main).main_device == "cuda:1"


def test_planning_for_cards_elsewhere_does_not_import_torch():
    code = (
        "import sys; from devplan.machine import parse_gpus, machine_label;"
        "machine_label(parse_gpus('0,1', memory='rtx-4090')); parse_gpus('2x24GiB');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# ------------------------------------------------------------------------------------- reserve


def test_the_default_reserve_is_a_gib_and_an_eighth_of_a_small_card():
    assert [card.reserve_bytes for card in parse_gpus("24GiB,4GiB").cards] == [GIB, GIB // 2]
    assert default_reserve(80 * GIB) == DEFAULT_BYTES


@pytest.mark.parametrize(
    ("reserve", "gib"),
    [
        ("2GiB", [2, 2]),
        ("0", [0, 0]),
        ("2GiB,512MiB", [2, 0.5]),
        ("0=2GiB", [2, 1]),
        ("cuda:1=3GiB", [1, 3]),
        ("1=3GiB, 0=0", [0, 3]),
    ],
)
def test_reserve_for_all_for_each_and_by_device(reserve, gib):
    machine = parse_gpus("24GiB,12GiB", reserve=reserve)
    assert [card.reserve_bytes / GIB for card in machine.cards] == gib
    assert machine.cards[0].budget_bytes == 24 * GIB - machine.cards[0].reserve_bytes


@given(st.integers(256 * MIB, 2**41))
def test_the_default_reserve_always_leaves_most_of_a_card(capacity):
    assert 0 < default_reserve(capacity) <= min(DEFAULT_BYTES, capacity // 8)


# ------------------------------------------------------------------------------------- offload


@pytest.mark.parametrize(
    ("offload", "tiers"),
    [
        ((), []),
        (["cpu=64GiB"], [("cpu", 64 * GIB)]),
        (["cpu"], [("cpu", None)]),
        (["disk=200GiB", "CPU=64GiB"], [("cpu", 64 * GIB), ("disk", 200 * GIB)]),
        (["cpu,disk"], [("cpu", None), ("disk", None)]),
    ],
)
def test_offload_tiers_come_fastest_first(offload, tiers):
    expected = tuple(OffloadTier(device=name, capacity_bytes=size) for name, size in tiers)
    assert parse_gpus("24GiB", offload=offload).tiers == expected


# -------------------------------------------------------------------------------------- errors


def test_indices_without_gpus_show_the_memory_form(local_gpus):
    local_gpus()
    text = message_of("0,1")
    assert "no GPU 0 or 1 on this machine" in text
    assert "torch sees 0 CUDA devices" in text
    assert "--gpus 0,1 --memory 24GiB,24GiB" in text
    assert "--gpus 24GiB,24GiB" in text


def test_only_the_missing_indices_are_named(local_gpus):
    local_gpus(("A", 8192))
    text = message_of("0,1,2")
    assert "no GPU 1 or 2 on this machine (torch sees 1 CUDA device)" in text


def test_bare_numbers_that_look_like_sizes_are_explained(local_gpus):
    local_gpus()
    text = message_of("24,12")
    assert "no GPU 24 or 12" in text
    assert "a bare number is an index" in text
    assert "--gpus 24GiB,12GiB" in text


def test_all_on_a_machine_without_gpus(local_gpus):
    local_gpus()
    assert "torch sees 0 CUDA devices" in message_of("all")


@pytest.mark.parametrize(
    ("gpus", "facts"),
    [
        ("", ["--gpus", "empty", "24GiB"]),
        (" , ", ["--gpus", "empty"]),
        ("24GiB,,12GiB", ["24GiB,,12GiB", "empty item"]),
        ("24GiB,", ["empty item"]),
        ("24g", ["24g", "24GiB", "24GB"]),
        ("24Gi", ["24Gi", "24GiB"]),
        ("24.5", ["24.5", "24.5GiB"]),
        ("2x24", ["GPU 24 exists once", "2x24GiB"]),
        ("2x0", ["GPU 0 exists once"]),
        ("24000", ["24000", "127", "unit"]),
        ("-24GiB", ["-24GiB", "negative"]),
        ("-1", ["-1", "negative"]),
        ("0GiB", ["0GiB", "256.00 MiB"]),
        ("10MiB", ["10MiB", "too small"]),
        ("24B", ["24B", "too small"]),
        ("3TiB", ["3TiB", "2.00 TiB"]),
        ("99999999GiB", ["larger"]),
        ("0x24GiB", ["1 to 64", "not 0"]),
        ("-2x24GiB", ["1 to 64", "not -2"]),
        ("65x24GiB", ["1 to 64", "not 65"]),
        ("24GiBx65", ["1 to 64", "not 65"]),
        ("h100x0", ["1 to 64", "not 0"]),
        ("2x24GiBx2", ["2x24GiBx2", "two counts"]),
        ("cuda:0x2", ["GPU 0 exists once"]),
        ("4090x2", ["4090 is an index", "rtx-4090"]),
        ("list", ["'list'", "--gpus list"]),
        ("40x24GiB,40x12GiB", ["80 GPUs", "64"]),
        ("2x2x24GiB", ["2x2x24GiB", "two counts"]),
        ("24GiB;12GiB", ["24GiB;12GiB", "cannot be read"]),
        ("1e3GiB", ["1e3GiB", "cannot be read"]),
        ("!!", ["!!", "cannot be read"]),
        ("rtx-4091", ["rtx-4091", "rtx-4090"]),
        ("a100", ["a100-40gb", "a100-80gb"]),
        ("all,24GiB", ["all stands alone"]),
        ("cpu", ["cpu"]),
    ],
)
def test_cards_that_cannot_be_read(gpus, facts):
    text = message_of(gpus)
    assert all(fact in text for fact in facts), text


@pytest.mark.parametrize(
    "name", ["24GiB", "24.5 GB", *catalogue.gpu_ids(), "NVIDIA GeForce RTX 4090"]
)
def test_a_count_stands_before_a_card_or_behind_it(name):
    (card,) = set(parse_gpus(name).cards)
    for text in (f"3x{name}", f"3 × {name}", f"{name}x3", f"{name} x 3", f"{name}*3"):
        cards = parse_gpus(text).cards
        assert len(cards) == 3
        assert {(each.name, each.capacity_bytes) for each in cards} == {
            (card.name, card.capacity_bytes)
        }


def test_an_index_is_named_once():
    text = message_of("0,1,0", memory="24GiB")
    assert "GPU 0 twice" in text
    assert "2x24GiB" in text


@pytest.mark.parametrize(
    ("gpus", "memory", "facts"),
    [
        ("2,3", "24GiB,24GiB,24GiB", ["3 sizes", "2 indices", "2, 3"]),
        ("24GiB", "24GiB", ["--memory", "named by index", "leave --memory out"]),
        ("0,1", "24,12", ["24", "24GiB"]),
        ("0,1", "", ["--memory", "empty"]),
        ("0", "10MiB", ["--memory", "too small"]),
        ("all", "24GiB", ["--gpus all", "--memory", "0,1"]),
    ],
)
def test_memory_that_does_not_match(gpus, memory, facts):
    text = message_of(gpus, memory=memory)
    assert all(fact in text for fact in facts), text


@pytest.mark.parametrize(
    ("reserve", "facts"),
    [
        ("24GiB", ["24.00 GiB", "cuda:0"]),
        ("13GiB", ["13.00 GiB", "12.00 GiB", "cuda:1"]),
        ("1=12GiB", ["12.00 GiB", "cuda:1"]),
        ("1GiB,1GiB,1GiB", ["3 sizes", "2 GPUs"]),
        ("2", ["2", "2GiB"]),
        ("2g", ["2GiB", "2GB"]),
        ("-1GiB", ["-1GiB", "negative"]),
        ("much", ["--reserve", "much"]),
        ("", ["--reserve", "empty"]),
        ("1GiB,", ["empty item"]),
        ("0=", ["--reserve", "not a size"]),
        ("5=1GiB", ["--reserve", "5", "cuda:0, cuda:1"]),
        ("0=1GiB,cuda:0=2GiB", ["cuda:0 twice"]),
        ("0=1GiB,2GiB", ["mixes", "0=2GiB"]),
    ],
)
def test_a_reserve_that_cannot_be_kept(reserve, facts):
    text = message_of("24GiB,12GiB", reserve=reserve)
    assert all(fact in text for fact in facts), text


@pytest.mark.parametrize("main", ["2", "cuda:2", "cpu", "-1", "", "²"])
def test_a_main_device_that_is_not_there(main):
    text = message_of("24GiB,12GiB", main=main)
    assert "--main" in text
    assert "cuda:0, cuda:1" in text


@pytest.mark.parametrize(
    ("offload", "facts"),
    [
        (["cpu", "cpu=1GiB"], ["cpu twice"]),
        (["ssd"], ["ssd", "disk=200GiB"]),
        (["dsk"], ["dsk", "disk"]),
        ([""], ["--offload", "cpu"]),
        (["cpu=0"], ["cpu=0", "no room"]),
        (["cpu=-1GiB"], ["negative"]),
        (["cpu=64"], ["64GiB"]),
        (["cpu="], ["--offload", "not a size"]),
    ],
)
def test_offload_that_cannot_be_read(offload, facts):
    text = message_of("24GiB", offload=offload)
    assert all(fact in text for fact in facts), text


@given(st.text(alphabet="0123456789xgGiBMT.,-= a100rtx:cud", max_size=24))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        machine = parse_gpus(text, memory="24GiB")
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert 1 <= len(machine.cards) <= 64


# --------------------------------------------------------------------------------------- label


@pytest.mark.parametrize(
    ("gpus", "label"),
    [
        ("24GiB,12GiB", "24+12gib"),
        ("2x24GiB", "2x24gib"),
        ("24 GiB,24.0gib", "2x24gib"),
        ("2x48GiB,2x24GiB", "2x48+2x24gib"),
        ("24GiB,24GB", "24gib+24gb"),
        ("23.5GiB", "23.5gib"),
        ("2xa100-80gb,rtx-4090", "2xa100-80gb+rtx-4090"),
        ("rtx-4090,24GiB,12GiB", "rtx-4090+24+12gib"),
        ("24GiB,12GiB,24GiB", "24+12+24gib"),
    ],
)
def test_label_of_a_machine(gpus, label):
    assert machine_label(parse_gpus(gpus)) == label


def test_other_numbers_are_part_of_the_label():
    assert machine_label(parse_gpus("0,1", memory="24GiB")) == "2x24gib"
    assert machine_label(parse_gpus("2,3", memory="24GiB")) == "2x24gib-on-2-3"
    assert machine_label(parse_gpus("1,0", memory="24GiB")) == "2x24gib-on-1-0"


def test_another_main_device_is_part_of_the_label():
    assert machine_label(parse_gpus("24GiB,12GiB", main="cuda:0")) == "24+12gib"
    assert machine_label(parse_gpus("24GiB,12GiB", main="cuda:1")) == "24+12gib-main-1"


def test_names_from_the_driver_are_shortened(local_gpus):
    local_gpus(("NVIDIA GeForce RTX 4090", 24081), ("NVIDIA Something/New (R) 96", 90000))
    assert machine_label(parse_gpus("0,1")) == "rtx-4090+something-new-r-96"


cards = st.lists(
    st.one_of(
        st.integers(1, 200).map(lambda gib: f"{gib}GiB"),
        st.integers(300, 99999).map(lambda mib: f"{mib}MiB"),
        st.sampled_from(catalogue.gpu_ids()),
    ),
    min_size=1,
    max_size=40,
)


@given(cards)
def test_labels_are_safe_short_and_repeatable(names):
    machine = parse_gpus(",".join(names))
    label = machine_label(machine)
    assert re.fullmatch(r"[a-z0-9][a-z0-9.+_-]{0,59}", label)
    assert label == machine_label(parse_gpus(",".join(names)))


@given(cards, cards)
def test_different_machines_have_different_labels(one, other):
    first, second = (parse_gpus(",".join(names)) for names in (one, other))
    same = [card.name for card in first.cards] == [card.name for card in second.cards]
    assert (machine_label(first) == machine_label(second)) == same


@given(cards)
def test_cards_keep_their_order_and_numbers(names):
    machine = parse_gpus(",".join(names))
    assert machine.devices == tuple(f"cuda:{number}" for number in range(len(names)))
    assert [card.name for card in machine.cards] == names
    assert all(0 < card.budget_bytes < card.capacity_bytes for card in machine.cards)
