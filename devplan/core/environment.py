"""The vocabulary of environments: what is on this machine, and what a map was locked to.

An `Environment` is read once (``devplan.environment.read_environment``) and compared with a map
before a byte is loaded (``devplan.rules.differences``).  A `Lock` is the part of it that
``devplan lock`` writes into a map.  What could not be read is None, with a note that says why.
Everything is frozen; nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devplan.core.costs import Link


@dataclass(frozen=True, kw_only=True)
class FoundCard:
    """A GPU as torch numbers it: what ``cuda:N`` of a map means here."""

    device: str
    name: str
    capacity_bytes: int
    """torch's ``total_memory``: the bound of what a process can allocate."""
    free_bytes: int | None = None
    """Of the card at this moment; None: nobody could be asked."""
    own_bytes: int = 0
    """Held by torch of this very process: a model that was loaded before."""
    compute_capability: tuple[int, int] | None = None
    uuid: str | None = None
    """``GPU-...``, as the driver has it."""
    pci_bus_id: str | None = None
    driver_index: int | None = None
    """Its number in ``nvidia-smi``; None: not known."""

    @property
    def taken_bytes(self) -> int:
        """Held by other processes: capacity less what is free and what is this process's own."""
        if self.free_bytes is None:
            return 0
        return max(self.capacity_bytes - self.free_bytes - self.own_bytes, 0)

    @property
    def room_bytes(self) -> int:
        """What a plan could fill now."""
        free = self.capacity_bytes if self.free_bytes is None else self.free_bytes
        return min(self.capacity_bytes, free)


@dataclass(frozen=True, kw_only=True)
class DriverCard:
    """A GPU as the driver sees it, whether or not torch may use it."""

    index: int
    name: str
    uuid: str
    pci_bus_id: str
    total_bytes: int
    free_bytes: int
    compute_capability: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class CardUse:
    """A process that holds memory of a card."""

    uuid: str
    pid: int
    name: str
    held_bytes: int


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Everything about this machine that a map may depend on."""

    cards: tuple[FoundCard, ...] = ()
    """What torch sees, in its order; empty where there is no GPU or torch cannot use it."""
    driver_cards: tuple[DriverCard, ...] = ()
    """What the driver sees, in its order; empty where it cannot be asked."""
    uses: tuple[CardUse, ...] = ()
    """Who holds memory; empty where nobody does or the driver does not tell (containers)."""
    driver: str | None = None
    """Version of the driver: ``550.54.14``."""
    driver_cuda: tuple[int, int] | None = None
    """The latest CUDA that the driver supports."""
    torch_cuda: str | None = None
    """The CUDA that torch was built with; None: a build without."""
    torch_hip: str | None = None
    """The same of a ROCm build."""
    torch_archs: tuple[str, ...] = ()
    """Architectures that torch was compiled for: ``sm_80``, ``compute_90``."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Library -> release with its local part: ``2.13.0+cu130``."""
    python: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that change what a map means, as they are set."""
    accelerate_config: str | None = None
    """accelerate's configuration file, where there is one."""
    peers: Mapping[tuple[str, str], bool] = field(default_factory=dict)
    """Pair of devices -> whether the first can read the second's memory."""
    links: tuple[Link, ...] = ()
    """Between the cards, and from each to the host."""
    memory_bytes: int | None = None
    """CPU memory that this process may still take."""
    offload_folder: str | None = None
    disk_bytes: int | None = None
    """Free in the offload folder."""
    notes: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def visible(self) -> str | None:
        """``CUDA_VISIBLE_DEVICES`` as it is set; None: not set."""
        return self.variables.get("CUDA_VISIBLE_DEVICES")

    def card(self, device: str) -> FoundCard | None:
        """The card of a device; None where there is none."""
        return next((card for card in self.cards if card.device == device), None)


@dataclass(frozen=True, kw_only=True)
class LockedCard:
    """A GPU that a map was locked to."""

    device: str
    name: str
    capacity_bytes: int
    uuid: str | None
    compute_capability: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The environment that a map was found to fit, as ``devplan lock`` wrote it."""

    cards: tuple[LockedCard, ...]
    """Empty where the map was locked on a machine without GPUs: versions only."""
    driver: str | None
    cuda: str | None
    """The CUDA that torch was built with."""
    python: str
    versions: Mapping[str, str]

    def card(self, device: str) -> LockedCard | None:
        return next((card for card in self.cards if card.device == device), None)


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What is known of the model that is to be loaded, before its weights are read.

    What is None or empty was not read, and is not compared.
    """

    id: str
    revision: str | None = None
    config_hash: str | None = None
    config: Mapping[str, Any] | None = None
    """Content of its config.json."""
    class_name: str | None = None
    is_class_installed: bool | None = None
    """Whether the installed libraries have it, or trusted code that comes with the model."""
    library: str = "transformers"
    num_parameters: int | None = None
    names: frozenset[str] = frozenset()
    """Every name of every module, parameter and buffer."""
