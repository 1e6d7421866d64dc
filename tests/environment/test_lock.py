"""Locking: only to a machine that fits, in the file's own text, and compared from then on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from devplan.checker.locking import lock_file, locked
from devplan.core.errors import InputError
from devplan.core.findings import Severity
from devplan.environment.remapping import remapped
from devplan.mapfile.read import loads_map, read_map
from devplan.mapfile.write import LOCK, dump_map, lock_text, spliced
from devplan.rules.environment import differences
from tests.environment.machines import MAP_PATH, ROOT, VERSIONS, card, example_map, machine

ADA = "NVIDIA GeForce RTX 4090"
HERE = machine(card(0, 24, ADA, compute_capability=(8, 9)), card(1, 12))
SMALL = (ROOT / "tests" / "checks" / "maps" / "tiny_llama.yaml").read_text(encoding="utf-8")
TEXT = MAP_PATH.read_text(encoding="utf-8")


def test_cards_driver_and_versions_are_written():
    lock = locked(example_map(), HERE).environment
    assert [(c.device, c.name, c.uuid, c.compute_capability) for c in lock.cards] == [
        ("cuda:0", ADA, "GPU-0", (8, 9)),
        ("cuda:1", "12GiB", "GPU-1", None),
    ]
    assert (lock.driver, lock.cuda, lock.python) == ("580.65.06", "13.0", "3.11.7")
    assert lock.versions == VERSIONS


def test_only_cards_of_the_map_are_written():
    lock = locked(example_map(), machine(card(0, 24), card(1, 12), card(2, 80))).environment
    assert [c.device for c in lock.cards] == ["cuda:0", "cuda:1"]


def test_a_locked_map_is_written_and_read_back():
    there = locked(example_map(), HERE)
    assert loads_map(dump_map(there), "map.yaml") == there
    assert yaml.safe_load(dump_map(there))["device_map"] == yaml.safe_load(TEXT)["device_map"]


def test_without_gpus_only_versions_are_locked():
    lock = locked(example_map(), machine()).environment
    assert (lock.cards, lock.driver) == ((), None)
    assert lock.versions == VERSIONS


@pytest.mark.parametrize(
    "here, words",
    [
        (machine(card(0, 24)), "cuda:1 (12GiB) is not here"),
        (machine(card(0, 12), card(1, 24)), "GPUs are numbered differently on this machine"),
        (machine(card(0, 24, taken_gib=20), card(1, 12)), "only 4.00 GiB are free"),
        (machine(driver_cuda=(12, 4), driver="550"), "CUDA 12.4 at most"),
    ],
)
def test_a_machine_that_does_not_fit_is_refused(here, words, tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(TEXT)
    with pytest.raises(InputError) as caught:
        lock_file(path, here)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_text() == TEXT


# ------------------------------------------------------------------------------------ the file


def test_the_rest_of_the_file_stays_as_it_was(tmp_path):
    path = tmp_path / "map.yaml"
    remarked = TEXT.replace("schema: 1\n", "schema: 1  # as agreed\n\n# a remark of ours\n")
    path.write_text(remarked)
    there, _ = lock_file(path, HERE)
    text = path.read_text()
    section = lock_text(there)
    assert text.replace(section + "\n", "") == remarked
    assert read_map(path) == there


def test_the_text_is_that_of_the_writer(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(TEXT)
    there, outcome = lock_file(path, HERE)
    shown = MAP_PATH.relative_to(MAP_PATH.parents[1])
    assert outcome.value == "replaced"
    assert path.read_text() == dump_map(there, shown)


def test_locking_again_replaces_the_section(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text(TEXT)
    lock_file(path, HERE)
    assert lock_file(path, HERE)[1].value == "unchanged"
    lock_file(path, replace(HERE, driver="590.10"))
    assert path.read_text().count("environment:") == 1
    assert read_map(path).environment.driver == "590.10"


def test_a_file_that_does_not_end_its_last_line_is_locked_too():
    section = lock_text(locked(loads_map(SMALL, "small.yaml"), HERE))
    text = SMALL.rstrip("\n")
    assert spliced(text, LOCK, section) == spliced(text + "\n", LOCK, section)


@settings(deadline=None, max_examples=30)
@given(st.data())
def test_a_section_is_put_into_any_order_of_sections(data):
    """Whatever the order, comments and gaps: the content is the map's, and nothing is lost."""
    parts = SMALL.split("\n\n")
    head, sections = parts[0], [part.strip("\n") for part in parts[1:]]
    order = data.draw(st.permutations(sections))
    gaps = data.draw(st.lists(st.sampled_from(["\n", "\n\n", "\n\n# note\n\n"]), min_size=40))
    text = head + "\n\n"
    for section, gap in zip(order, gaps, strict=False):
        text += section + gap
    text += data.draw(st.sampled_from(["", "\n", "# the end", "# the end\n"]))
    there = locked(loads_map(SMALL, "small.yaml"), HERE)
    section = lock_text(there)
    result = spliced(text, LOCK, section)
    assert loads_map(result, "map.yaml") == there
    own = {*section.splitlines(), ""}
    assert [line for line in result.splitlines() if line not in own] == [
        line for line in text.splitlines() if line not in own
    ]
    assert spliced(result, LOCK, section) == result


# --------------------------------------------------------------------------------- compared


def weights(here, map_file):
    return [(d.code, d.severity, d.module) for d in differences(map_file, here)]


def test_a_locked_map_shows_nothing_where_it_was_locked():
    assert weights(HERE, locked(example_map(), HERE)) == []


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"driver": "570.10"}, ("DP501", Severity.WARNING, "driver")),
        ({"driver": "600.10"}, ("DP501", Severity.NOTE, "driver")),
        ({"torch_cuda": "12.8"}, ("DP501", Severity.NOTE, "cuda")),
        ({"python": "3.12.1"}, ("DP501", Severity.NOTE, "python")),
        ({"python": "3.11.9"}, None),
        (
            {"versions": {**VERSIONS, "safetensors": "0.9.0"}},
            ("DP501", Severity.NOTE, "safetensors"),
        ),
    ],
)
def test_what_was_locked_is_compared(changes, expected):
    seen = weights(replace(HERE, **changes), locked(example_map(), HERE))
    assert seen == ([expected] if expected else [])


def test_another_piece_of_the_same_kind_is_a_note():
    there = locked(example_map(), machine(card(0, 24, ADA), card(1, 12)))
    there = replace(
        there,
        machine=replace(
            there.machine,
            cards=tuple(
                replace(c, name=ADA) if c.device == "cuda:0" else c for c in there.machine.cards
            ),
        ),
    )
    other = machine(card(0, 24, ADA, uuid="GPU-9"), card(1, 12))
    assert weights(other, there) == [("DP506", Severity.NOTE, "cuda:0")]


def test_a_lock_without_cards_knows_no_driver():
    there = locked(example_map(), machine(torch_cuda=None))
    assert weights(HERE, there) == []


def test_a_library_of_the_lock_that_is_gone_matters_only_to_maps_that_need_it():
    there = locked(example_map(), replace(HERE, versions={**VERSIONS, "diffusers": "0.36.0"}))
    assert weights(HERE, there) == []


def test_a_lock_moves_with_its_cards():
    there = locked(example_map(), HERE)
    moved = machine(card(0, 12, uuid="GPU-1"), card(1, 24, ADA, uuid="GPU-0"))
    here = remapped(there, moved)
    assert [(c.device, c.uuid) for c in here.environment.cards] == [
        ("cuda:1", "GPU-0"),
        ("cuda:0", "GPU-1"),
    ]
    others = machine(card(0, 12, uuid="GPU-8"), card(1, 24, ADA, uuid="GPU-9"))
    assert remapped(there, others).environment is None


# ---------------------------------------------------------------------------------- the reader


@pytest.mark.parametrize(
    "old, new, words",
    [
        (
            "- device: cuda:0\n      name: NVIDIA",
            "- device: cuda:7\n      name: NVIDIA",
            "not a GPU of its",
        ),
        ("compute_capability: '8.9'", "compute_capability: 8.9", "expected a compute capability"),
        ("driver: 580.65.06", "driver: 580", "expected text"),
        ("python: 3.11.7", "snake: 3.11.7", "unknown key 'snake'"),
    ],
)
def test_a_broken_lock_is_refused_with_its_line(old, new, words):
    text = dump_map(locked(example_map(), HERE))
    assert old in text
    with pytest.raises(InputError, match=words) as caught:
        loads_map(text.replace(old, new), "map.yaml")
    assert str(caught.value).startswith("map.yaml:2")
