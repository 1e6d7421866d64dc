"""This machine, read: everything that a map may depend on, with or without GPUs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from devplan import __version__
from devplan.core import Card, Environment, Machine, accepts, path
from devplan.environment import reading as host
from devplan.environment.driver import read_driver
from devplan.environment.torch_gpus import read_torch
from devplan.machine import MEASURED, default_reserve, with_links

OFFLOAD_FOLDER = "offload"
"""Where weights for the disk go if nobody says otherwise; what devplan's own messages propose."""


@accepts(offload_folder=path("a folder, which need not exist"))
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


def machine_here(environment: Environment) -> Machine | None:
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
    machine = machine_here(environment)
    return () if machine is None else with_links(machine, how).links


LIBRARIES = ("torch", "transformers", "accelerate", "safetensors", "diffusers")
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "CUDA_DEVICE_ORDER",
    "HIP_VISIBLE_DEVICES",
    "PYTORCH_CUDA_ALLOC_CONF",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_NO_CUDA_MEMORY_CACHING",
    "ACCELERATE_USE_CPU",
    "ACCELERATE_CONFIG_FILE",
)

_LIMIT = Path("/sys/fs/cgroup/memory.max")
_HELD = Path("/sys/fs/cgroup/memory.current")


def library_versions() -> dict[str, str]:
    """devplan and the installed ones of `LIBRARIES`, with their local part (``2.13.0+cu130``)."""
    versions = {"devplan": __version__}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def python_version() -> str:
    return platform.python_version()


def set_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Those of `VARIABLES` that are set, also to the empty text."""
    environ = os.environ if environ is None else environ
    return {name: environ[name] for name in VARIABLES if name in environ}


def accelerate_config() -> str | None:
    """accelerate's configuration file, where there is one.

    Where it lies: ``accelerate.commands.config.config_args`` (1.15).
    """
    named = os.environ.get("ACCELERATE_CONFIG_FILE")
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "huggingface"
    )
    folder = Path(home).expanduser() / "accelerate"
    paths = (
        [Path(named)] if named else [folder / f"default_config.{end}" for end in ("yaml", "json")]
    )
    return next((str(path) for path in paths if path.is_file()), None)


def available_memory() -> int | None:
    """CPU memory that may still be taken, the limit of a container included."""
    import psutil

    free = psutil.virtual_memory().available
    in_container = _container_memory()
    return free if in_container is None else min(free, in_container)


def _container_memory() -> int | None:
    """What the control group leaves; None where it sets no limit or is not version 2.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
    """
    try:
        limit, held = _LIMIT.read_text().strip(), int(_HELD.read_text())
        return max(int(limit) - held, 0) if limit.isdecimal() else None
    except (OSError, ValueError):
        return None


def free_disk(folder: str | os.PathLike[str]) -> int | None:
    """Free where the folder is or would be made; None where that cannot be asked."""
    path = Path(folder).expanduser().absolute()
    existing = next((each for each in (path, *path.parents) if each.exists()), None)
    try:
        return shutil.disk_usage(existing).free if existing else None
    except OSError:
        return None
