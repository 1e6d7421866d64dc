"""What differs between a map and a machine: each kind, its weight, its numbers, its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.core.environment import CardUse, Environment, ModelFacts
from devplan.core.findings import Severity
from devplan.core.types import OffloadTier
from devplan.core.units import GIB
from devplan.environment.model_facts import changed_values
from devplan.models.resolution import resolve
from devplan.rules.environment import differences, errors, obstacles
from tests.environment.machines import VERSIONS, card, example_map, machine

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE
FITTING = machine(card(0, 24), card(1, 12))
MAKE = "devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 0,1 --context 32768 --dtype bfloat16"


def found(environment: Environment, map_file=None, model=None):
    return differences(map_file or example_map(), environment, model)


def weights(environment: Environment, map_file=None, model=None):
    return [(d.code, d.severity) for d in found(environment, map_file, model)]


# --------------------------------------------------------------------------------------- cards


def test_the_machine_of_the_map_shows_nothing():
    assert found(FITTING) == ()


def test_more_cards_than_the_map_has_show_nothing():
    assert found(machine(card(0, 24), card(1, 12), card(2, 80))) == ()


def test_no_gpu_is_one_sentence():
    (only,) = found(machine())
    assert (only.code, only.severity) == ("DP503", ERROR)
    assert "17.09 GiB on cuda:0 (24GiB), 8.83 GiB on cuda:1 (12GiB)" in only.message
    assert "devplan suggest" not in only.fix.text


def test_a_missing_card_names_the_command_for_those_that_are_here():
    (only,) = found(machine(card(0, 24)))
    assert (only.code, only.module) == ("DP503", "cuda:1")
    assert "--gpus 0 --context 32768" in only.fix.text


def test_a_missing_card_that_is_hidden_is_said_to_be():
    hidden = machine(card(0, 24), driver_cards=FITTING.driver_cards)
    message = next(d.message for d in found(hidden) if d.code == "DP503")
    assert "the driver has 1 more that this process does not see" in message


@pytest.mark.parametrize(
    "size, weight, words",
    [
        (8, ERROR, "lack 854.51 MiB"),
        (9, WARNING, "take 854.51 MiB from the reserve of 1.00 GiB"),
        (11, NOTE, "1.17 GiB are left"),
    ],
)
def test_a_smaller_card_weighs_what_it_lacks(size, weight, words):
    (only,) = found(machine(card(0, 24), card(1, size)))
    assert (only.code, only.severity, only.module) == ("DP504", weight, "cuda:1")
    assert words in only.message
    assert (MAKE in only.fix.text) == (weight is not NOTE)


@pytest.mark.parametrize(
    "taken, weight, words",
    [
        (10, ERROR, "lack 3.09 GiB"),
        (6, WARNING, "take 93.16 MiB from the reserve"),
        (3, None, ""),
    ],
)
def test_memory_in_use_weighs_what_it_lacks(taken, weight, words):
    seen = found(machine(card(0, 24, taken_gib=taken), card(1, 12)))
    assert [(d.code, d.severity) for d in seen] == ([("DP505", weight)] if weight else [])
    if weight:
        assert words in seen[0].message
        assert f"other processes hold {taken}.00 GiB" in seen[0].message
        assert f"--gpus 0,1 --memory {(24 - taken) * 1024}MiB,12288MiB" in seen[0].fix.text


def test_who_uses_the_memory_is_named():
    use = CardUse(uuid="GPU-0", pid=4711, name="python", held_bytes=10 * GIB)
    (only,) = found(machine(card(0, 24, taken_gib=10), card(1, 12), uses=(use,)))
    assert "python (4711) holds 10.00 GiB" in only.message


def test_memory_of_this_process_is_told_from_that_of_others():
    (only,) = found(machine(card(0, 24, own_bytes=10 * GIB), card(1, 12)))
    assert "this process holds 10.00 GiB already" in only.message
    assert "other processes" not in only.message


def of_kinds(*names: str):
    given = example_map()
    cards = zip(given.machine.cards, names, strict=True)
    named = tuple(replace(each, name=name) for each, name in cards)
    return replace(given, machine=replace(given.machine, cards=named))


def test_another_kind_of_card_may_matter():
    here = machine(
        card(0, 24, "NVIDIA GeForce RTX 3090", compute_capability=(8, 6)),
        card(1, 12, "NVIDIA GeForce RTX 3060"),
    )
    (only,) = found(here, of_kinds("rtx-4090", "rtx-3060"))
    assert (only.code, only.severity, only.module) == ("DP506", WARNING, "cuda:0")
    assert "older architecture (8.6 instead of 8.9)" in only.message


def test_names_of_the_catalogue_and_of_the_driver_are_one_kind():
    here = machine(card(0, 24, "NVIDIA GeForce RTX 4090"), card(1, 12, "NVIDIA GeForce RTX 3060"))
    assert found(here, of_kinds("rtx-4090", "NVIDIA GeForce RTX 3060")) == ()


def test_moved_cards_are_said_once():
    (only,) = found(machine(card(0, 12), card(1, 24)))
    assert (only.code, only.severity) == ("DP507", ERROR)
    assert "cuda:0 (24GiB) is cuda:1 here, cuda:1 (12GiB) is cuda:0 here" in only.message
    assert "--remap" in only.fix.text


def test_moved_kinds_that_fit_may_matter():
    here = machine(card(0, 24, "NVIDIA GeForce RTX 3090"), card(1, 24, "NVIDIA GeForce RTX 4090"))
    seen = found(here, of_kinds("rtx-4090", "rtx-3090"))
    assert [(d.code, d.severity) for d in seen] == [("DP507", WARNING)]


def test_what_another_order_does_not_repair_is_said_beside():
    here = machine(card(0, 12), card(1, 24, "NVIDIA GeForce RTX 3090"))
    seen = found(here, of_kinds("rtx-4090", "12GiB"))
    assert [(d.code, d.severity) for d in seen] == [("DP507", ERROR), ("DP506", WARNING)]
    assert seen[1].module == "cuda:1"


def test_cards_of_other_numbers():
    given = example_map()
    far = {"cuda:0": "cuda:2", "cuda:1": "cuda:3"}
    moved = replace(
        given,
        device_map={k: far[d] for k, d in given.device_map.items()},
        machine=replace(
            given.machine,
            cards=tuple(replace(c, device=far[c.device]) for c in given.machine.cards),
            main_device="cuda:2",
            links=(),
        ),
        loads=tuple(replace(load, device=far[load.device]) for load in given.loads),
    )
    assert weights(FITTING, moved) == [("DP507", ERROR)]


# ---------------------------------------------------------------------------------------- CUDA


def codes(environment: Environment):
    return [(d.code, d.severity) for d in obstacles(environment)]


def test_a_build_without_cuda_beside_a_driver():
    here = machine(driver="550.54.14", driver_cuda=(12, 4), torch_cuda=None)
    (only,) = obstacles(here)
    assert (only.code, only.severity) == ("DP508", ERROR)
    assert "build without CUDA" in only.message
    assert "CUDA 12.4" in only.fix.text


def test_a_build_without_cuda_on_a_laptop_is_nothing():
    assert obstacles(machine(torch_cuda=None)) == ()


def test_a_driver_of_an_older_major_release():
    (only,) = obstacles(machine(driver="550.54.14", driver_cuda=(12, 4)))
    assert (only.code, only.severity) == ("DP508", ERROR)
    assert "driver 550.54.14 supports CUDA 12.4 at most" in only.message
    assert "built for 13.0" in only.message


def test_a_driver_of_an_older_minor_release_may_matter():
    here = machine(card(0, 24), driver_cuda=(12, 2), torch_cuda="12.8")
    assert codes(here) == [("DP508", WARNING)]
    assert codes(replace(here, driver_cuda=(12, 8))) == []
    # [cuda-compat] torch sees the cards: then an older major release is no obstacle.
    assert codes(replace(here, driver_cuda=(11, 8))) == []


def test_hidden_cards_are_no_broken_driver():
    hidden = machine(
        driver_cards=FITTING.driver_cards, driver="580", variables={"CUDA_VISIBLE_DEVICES": ""}
    )
    assert codes(hidden) == [("DP511", WARNING)]


@pytest.mark.parametrize(
    "capability, archs, usable",
    [
        ((8, 9), ("sm_80", "sm_90"), True),  # binary compatible within a major release
        ((8, 0), ("sm_86",), False),
        ((6, 1), ("sm_75", "sm_80"), False),
        ((12, 0), ("sm_80", "compute_90"), True),  # compiled at the first use
        ((9, 0), ("sm_80", "sm_90a"), True),
        ((12, 1), ("sm_120",), True),
        ((7, 0), ("gfx90a",), True),  # nothing is known
    ],
)
def test_architectures_that_torch_has_code_for(capability, archs, usable):
    here = machine(card(0, 24, compute_capability=capability), torch_archs=archs)
    assert codes(here) == ([] if usable else [("DP508", ERROR)])


# ------------------------------------------------------------------------------------ releases


@pytest.mark.parametrize(
    "name, version, weight",
    [
        ("transformers", "5.23.0", None),
        ("transformers", "5.23.1", NOTE),
        ("transformers", "5.22.0", WARNING),
        ("transformers", "4.57.0", WARNING),
        ("accelerate", "1.14.0", WARNING),
        ("torch", "2.13.0+cpu", None),
        ("torch", "2.12.0", NOTE),
    ],
)
def test_other_releases_weigh_what_they_may_change(name, version, weight):
    here = replace(FITTING, versions={**VERSIONS, name: version})
    seen = found(here)
    assert [(d.code, d.severity) for d in seen] == ([("DP501", weight)] if weight else [])
    if weight is WARNING:
        made = example_map().versions[name]
        assert f'pip install "{name}=={made}"' in seen[0].fix.text
        assert MAKE in seen[0].fix.text


def test_a_library_that_the_map_needs_and_that_is_not_here():
    given = example_map()
    given = replace(given, versions={**given.versions, "diffusers": "0.36.0"})
    (only,) = found(FITTING, given)
    assert (only.code, only.severity, only.module) == ("DP501", ERROR, "diffusers")


# --------------------------------------------------------------------------------------- model

QWEN = resolve("Qwen/Qwen2.5-VL-7B-Instruct")


def facts(**changes) -> ModelFacts:
    planned = example_map().model
    same = ModelFacts(
        id=planned.id,
        config_hash=planned.config_hash,
        config=QWEN.config,
        class_name=planned.class_name,
        is_class_installed=True,
        num_parameters=planned.num_parameters,
        names=frozenset(example_map().device_map),
    )
    return replace(same, **changes)


def test_the_same_model_shows_nothing():
    assert found(FITTING, model=facts()) == ()


@pytest.mark.parametrize(
    "changes, code, weight, words",
    [
        ({"is_class_installed": False}, "DP501", ERROR, "transformers does not have"),
        ({"class_name": "LlamaForCausalLM"}, "DP509", ERROR, "is a LlamaForCausalLM"),
        ({"num_parameters": 3 * 10**9}, "DP509", ERROR, "3,000,000,000 parameters"),
        ({"names": frozenset({"lm_head"})}, "DP002", ERROR, "32 of the 33 entries"),
        ({"config_hash": "0", "config": None}, "DP509", WARNING, "its hash differs"),
    ],
)
def test_another_model_weighs_what_it_changes(changes, code, weight, words):
    (only,) = found(FITTING, model=facts(**changes))
    assert (only.code, only.severity) == (code, weight)
    assert words in only.message


def test_a_full_configuration_agrees_with_the_catalogue_or_says_where_not():
    full = {**QWEN.config, "transformers_version": "4.49.0", "something_else": 1}
    assert found(FITTING, model=facts(config_hash="0", config=full)) == ()
    other = {**QWEN.config, "vocab_size": 1}
    (only,) = found(FITTING, model=facts(config_hash="0", config=other))
    assert (only.code, only.severity) == ("DP509", WARNING)
    assert "vocab_size is 1, not " in only.message


def test_values_are_compared_inside_sections():
    expected = {"a": {"b": 1, "torch_dtype": "bfloat16"}, "c": 2, "transformers_version": "4"}
    same = {"a": {"b": 1, "dtype": "bfloat16"}, "c": 2, "transformers_version": "5"}
    assert list(changed_values(expected, same)) == []
    assert list(changed_values(expected, {"a": {"b": 3}})) == ["a.b is 3, not 1"]


def test_another_revision_is_a_note_where_the_configuration_is_the_same():
    given = example_map()
    given = replace(given, model=replace(given.model, revision="aaa"))
    (only,) = found(FITTING, given, facts(revision="bbb"))
    assert (only.severity, only.fix.text) == (NOTE, "")
    (only,) = found(FITTING, given, facts(revision="bbb", config_hash=None))
    assert only.severity is WARNING
    assert "revision='aaa'" in only.fix.text


# ------------------------------------------------------------------------------------- offload


@pytest.mark.parametrize(
    "tier, free, weight",
    [
        ("cpu", 10, ERROR),
        ("cpu", 21, WARNING),
        ("cpu", 64, None),
        ("disk", 10, ERROR),
        ("disk", 64, None),
    ],
)
def test_room_for_offload(tier, free, weight):
    given = example_map()
    tiers = (OffloadTier(device=tier, capacity_bytes=None),)
    given = replace(
        given, machine=replace(given.machine, tiers=tiers), offload_bytes={tier: 20 * GIB}
    )
    field = {"cpu": "memory_bytes", "disk": "disk_bytes"}[tier]
    seen = found(replace(FITTING, **{field: free * GIB}), given)
    assert [(d.code, d.severity) for d in seen] == ([("DP510", weight)] if weight else [])


# ------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    "variables, weight",
    [
        ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, WARNING),
        ({"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:128"}, NOTE),
        ({"ACCELERATE_USE_CPU": "true"}, WARNING),
        ({"ACCELERATE_USE_CPU": "false"}, None),
    ],
)
def test_settings_in_the_way(variables, weight):
    assert codes(replace(FITTING, variables=variables)) == ([("DP512", weight)] if weight else [])


@pytest.mark.parametrize(
    "content, weight",
    [
        ("num_processes: 4\n", WARNING),
        ("num_processes: 1\nuse_cpu: false\n", None),
        ("use_cpu: true\n", WARNING),
        ("no: [yaml", None),
        ("- 1\n", None),
    ],
)
def test_the_configuration_of_accelerate(content, weight, tmp_path):
    path = tmp_path / "default_config.yaml"
    path.write_text(content)
    here = replace(FITTING, accelerate_config=str(path))
    assert codes(here) == ([("DP512", weight)] if weight else [])


def test_the_gravest_comes_first():
    here = machine(
        card(0, 24),
        card(1, 8),
        versions={**VERSIONS, "transformers": "5.22.0", "torch": "2.12.0"},
    )
    severities = [d.severity for d in found(here)]
    assert severities == [ERROR, WARNING, NOTE]
    assert [d.severity for d in errors(found(here))] == [ERROR]


def test_every_code_has_its_page():
    from devplan.rules.table import RULES

    here = machine(card(0, 12), card(1, 24), versions={**VERSIONS, "transformers": "4.0.0"})
    assert {d.code for d in found(here, model=facts(class_name="X"))} <= set(RULES)
