"""The command of every remedy makes the same map again: read back by the command line itself."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from devplan.cli import precedence
from devplan.cli.command import Options
from devplan.cli.suggest import suggest_command as the_command
from devplan.core.types import OffloadTier, Pin
from devplan.core.units import GIB, MIB
from devplan.environment.command import links_option, renewal_command
from devplan.machine.parse import parse_gpus
from tests.environment.machines import card, example_map, machine

LAPTOP = machine()


def options_of(command: str) -> Options:
    """What the command line makes of a command."""
    program, name, *arguments = shlex.split(command)
    assert (program, name) == ("devplan", "suggest")
    return Options(the_command.make_context("suggest", arguments))


def machine_asked(command: str):
    return precedence.planned_machine(options_of(command))


def test_the_example_on_a_laptop():
    command = renewal_command(example_map(), LAPTOP)
    assert command == (
        "devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 24GiB,12GiB --context 32768 "
        "--dtype bfloat16"
    )


def rich_map():
    """A map with everything that can be asked for."""
    given = example_map()
    cards = tuple(
        replace(each, reserve_bytes=size)
        for each, size in zip(given.machine.cards, (2 * GIB, 700 * MIB), strict=True)
    )
    links = tuple(replace(link, basis="given") for link in given.machine.links)
    return replace(
        given,
        model=replace(given.model, revision="abc", auto_class="AutoModelForCausalLM", packed=True),
        machine=replace(
            given.machine,
            cards=cards,
            main_device="cuda:1",
            links=links,
            tiers=(
                OffloadTier(device="cpu", capacity_bytes=64 * GIB),
                OffloadTier(device="disk", capacity_bytes=None),
            ),
        ),
        workload=replace(
            given.workload,
            batch=3,
            context=2048,
            kv_dtype="float16",
            images=2,
            image_size=(448, 672),
            frames=81,
            tiling=True,
        ),
        certificate=replace(given.certificate, objective="fewest"),
        pins=(
            *given.pins,
            Pin(block="model.language_model.layers.27", device="cuda:1", reason="user"),
        ),
    )


def test_everything_that_was_asked_for_is_asked_for_again():
    given = rich_map()
    command = renewal_command(given, LAPTOP)
    options = options_of(command)
    assert precedence.planned_model(options) == given.model.id
    again = precedence.planned_machine(options)
    assert again.cards == given.machine.cards
    assert again.main_device == "cuda:1"
    assert again.tiers == given.machine.tiers
    assert again.links == given.machine.links
    request = precedence.planned_workload(options)
    assert (request.batch, request.tokens) == (3, 2048)
    assert (request.dtype, request.kv_dtype) == ("bfloat16", "float16")
    assert (request.images, request.image_size) == (2, (448, 672))
    assert (request.frames, request.tiling) == (81, True)
    assert options.objective == "fewest"
    assert precedence.planned_pins(options) == {"model.language_model.layers.27": "cuda:1"}
    assert not options.no_pin
    assert options.revision == "abc"
    assert options.trust_remote_code is True
    assert options.packed is True


def test_numbers_of_cards_are_kept():
    given = example_map()
    far = {"cuda:0": "cuda:2", "cuda:1": "cuda:5"}
    cards = tuple(replace(each, device=far[each.device]) for each in given.machine.cards)
    moved = replace(
        given, machine=replace(given.machine, cards=cards, main_device="cuda:2", links=())
    )
    assert machine_asked(renewal_command(moved, LAPTOP)).cards == cards


def test_cards_that_the_driver_named():
    given = example_map()
    cards = (
        replace(given.machine.cards[0], name="NVIDIA GeForce RTX 4090"),
        replace(given.machine.cards[1], name="Some Card Of Tomorrow"),
    )
    named = replace(given, machine=replace(given.machine, cards=cards))
    assert "--gpus rtx-4090,12GiB" in renewal_command(named, LAPTOP)


def test_on_a_machine_with_cards_they_are_named_by_number():
    command = renewal_command(rich_map(), machine(card(0, 48), card(1, 48), card(2, 48)))
    options = options_of(command)
    assert options.gpus == "0,1,2"
    assert options.reserve == f"0={2}GiB,1=700MiB"
    assert options.main == "cuda:1"
    assert options.links is None  # they are those of other cards
    assert options.memory is None


def test_a_pin_to_a_card_that_is_not_here_is_left_out():
    command = renewal_command(rich_map(), machine(card(0, 48)))
    options = options_of(command)
    assert not options.pins
    assert options.main is None


def test_measured_links_are_measured_again_where_there_are_cards():
    given = example_map()
    links = tuple(replace(link, basis="measured") for link in given.machine.links)
    timed = replace(given, machine=replace(given.machine, links=links))
    here = machine(card(0, 24), card(1, 12))
    assert options_of(renewal_command(timed, here)).links == "measured"
    assert options_of(renewal_command(timed, LAPTOP)).links == "pcie4x16-host"


def test_no_pin_is_read_off_the_pins():
    given = replace(example_map(), pins=(), relaxed=())
    assert options_of(renewal_command(given, LAPTOP)).no_pin is True
    assert options_of(renewal_command(example_map(), LAPTOP)).no_pin is False


def test_a_pinned_module_is_one_argument():
    given = example_map()
    tower = [pin for pin in given.pins if pin.block.startswith("model.visual")]
    others = [pin for pin in given.pins if pin not in tower]
    pinned = replace(given, pins=(*others, *(replace(pin, reason="user") for pin in tower)))
    assert options_of(renewal_command(pinned, LAPTOP)).pins == (("model.visual", "cuda:0"),)


@pytest.mark.parametrize("objective, has_context", [("balance", True), ("context", False)])
def test_the_context_that_was_found_is_no_wish(objective, has_context):
    given = example_map()
    given = replace(given, certificate=replace(given.certificate, objective=objective))
    assert (options_of(renewal_command(given, LAPTOP)).context is not None) == has_context


@pytest.mark.parametrize(
    "links",
    [
        "pcie4x16",
        "pcie3x8-host",
        "50GB/s",
        "0-1:nvlink3,pcie4x16-host",
        "0-1:nvlink3",
        "0-cpu:pcie3x8",
        "nvlink",
        "0-1:12345678901B/s,1-2:pcie5x16,0-cpu:pcie4x8",
    ],
)
def test_links_are_said_as_they_were_given(links):
    given = parse_gpus("3xa100-80gb", links=links).links
    told = [link for link in given if link.basis == "given"]
    again = parse_gpus("3xa100-80gb", links=links_option(given)).links
    assert [link for link in again if link.basis == "given"] == told
