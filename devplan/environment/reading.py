"""This machine, read: everything that a map may depend on, with or without GPUs."""

from __future__ import annotations

import os
from dataclasses import replace

from devplan.core import Card, Environment, Machine
from devplan.environment import host
from devplan.environment.driver import read_driver
from devplan.environment.torch_gpus import read_torch
from devplan.machine import MEASURED, default_reserve, with_links

OFFLOAD_FOLDER = "offload"
"""Where weights for the disk go if nobody says otherwise; what devplan's own messages propose."""


def read_environment(offload_folder: str | os.PathLike[str] = OFFLOAD_FOLDER) -> Environment:
    """What is on this machine: cards, driver, libraries, memory.

    Links are those of the catalogue, by the names of the cards; `measured` times them.  Nothing is
    allocated on a card where the driver can be asked.

    Parameters
    ----------
    offload_folder
        Where offloaded weights would be written; need not exist.

    Returns
    -------
    Environment
        What could not be read is None or empty, with a note.
    """
    driver = read_driver()
    seen = read_torch(driver.cards)
    environment = Environment(
        cards=seen.cards,
        driver_cards=driver.cards,
        uses=driver.uses,
        driver=driver.version,
        driver_cuda=driver.cuda,
        torch_cuda=seen.cuda,
        torch_hip=seen.hip,
        torch_archs=seen.archs,
        versions=host.library_versions(),
        python=host.python_version(),
        variables=host.set_variables(),
        accelerate_config=host.accelerate_config(),
        peers=seen.peers or {},
        memory_bytes=host.available_memory(),
        offload_folder=os.fspath(offload_folder),
        disk_bytes=host.free_disk(offload_folder),
        notes=(*driver.notes, *seen.notes),
    )
    return replace(environment, links=_links(environment, None))


def measured(environment: Environment) -> Environment:
    """The same with the links timed: copies between all cards, and with the host.

    Raises
    ------
    InputError
        When the cards are no longer those of this machine.
    """
    return replace(environment, links=_links(environment, MEASURED))


def machine_of(environment: Environment) -> Machine | None:
    """The present machine as one to plan for; None without GPUs."""
    if not environment.cards:
        return None
    cards = tuple(
        Card(
            device=card.device,
            name=card.name,
            capacity_bytes=card.capacity_bytes,
            reserve_bytes=default_reserve(card.capacity_bytes),
        )
        for card in environment.cards
    )
    return Machine(cards=cards, main_device=cards[0].device)


def _links(environment: Environment, how: str | None):
    machine = machine_of(environment)
    return () if machine is None else with_links(machine, how).links
