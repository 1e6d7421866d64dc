"""On a real card: what is read is what torch and the driver say, and a map is locked to it.

python -m pytest -m gpu tests/environment
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from devplan.checker.locking import locked
from devplan.core.units import GIB, MIB
from devplan.environment.reading import measured, read_environment
from devplan.environment.remapping import remapped
from devplan.rules.environment import differences, errors
from tests.environment.machines import example_map

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def here():
    return read_environment()


def test_cards_are_those_of_torch(here):
    assert len(here.cards) == torch.cuda.device_count()
    for index, card in enumerate(here.cards):
        properties = torch.cuda.get_device_properties(index)
        assert (card.name, card.capacity_bytes) == (properties.name, properties.total_memory)
        assert card.compute_capability == torch.cuda.get_device_capability(index)
        assert card.free_bytes > 0
    assert here.torch_cuda == torch.version.cuda
    assert here.driver_cuda is not None


def test_memory_that_is_taken_is_seen():
    before = read_environment().card("cuda:0")
    held = torch.empty(GIB, dtype=torch.uint8, device="cuda:0")
    after = read_environment().card("cuda:0")
    assert after.own_bytes - before.own_bytes >= GIB
    # [context] the first tensor makes one, which takes up to a GiB itself.
    assert GIB - 64 * MIB <= before.free_bytes - after.free_bytes <= 2 * GIB + 64 * MIB
    del held
    torch.cuda.empty_cache()


def small_map(here):
    """The example on the first card alone, as small as the card needs it."""
    given = example_map()
    card = here.cards[0]
    load = replace(
        given.loads[0],
        weight_bytes=card.capacity_bytes // 16,
        cache_bytes=0,
        activation_bytes=0,
        reserve_bytes=card.capacity_bytes // 32,
        capacity_bytes=card.capacity_bytes,
    )
    planned = replace(
        given.machine.cards[0],
        name=card.name,
        capacity_bytes=card.capacity_bytes,
        reserve_bytes=card.capacity_bytes // 32,
    )
    return replace(
        given,
        device_map={"": "cuda:0"},
        machine=replace(given.machine, cards=(planned,), links=()),
        loads=(load,),
        versions={name: here.versions[name] for name in given.versions},
    )


def test_a_map_for_this_card_fits_and_is_locked_to_it(here):
    given = small_map(here)
    assert errors(differences(given, here)) == ()
    there = locked(given, here)
    assert there.environment.cards[0].name == here.cards[0].name
    assert errors(differences(there, read_environment())) == ()
    assert remapped(there, here).device_map == {"": "cuda:0"}


def test_links_are_measured(here):
    timed = measured(here)
    assert {link.basis for link in timed.links} == {"measured"}
    assert all(link.bytes_per_s > 10**8 for link in timed.links)
