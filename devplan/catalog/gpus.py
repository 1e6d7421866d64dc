"""The catalogue of GPUs: what a card of a name can hold, without having one.

Three figures exist for the memory of one card.  The box says 24 GB; the driver reports 24564 MiB
(some is kept for ECC, page tables, the display); torch's ``total_memory``, the bound of what a
process can allocate, is smaller again: 24081 MiB.  A plan is made for what torch reports, where
that was found; else for what the driver reports; else for the marketed number read as GiB, and
`Gpu.capacity_source` says which.  The CUDA context comes on top: that is the reserve
(`devplan.machine.reserve`).

Facts and sources are in ``gpus.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from devplan.core import GIB, MIB, InputError, is_size, nearest

FILE = Path(__file__).parent / "gpus.yaml"
# A C parser reads the file in a few milliseconds; wheels of PyYAML carry it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BRANDS = frozenset({"nvidia", "geforce", "tesla", "quadro", "amd", "instinct", "radeon"})


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One card, or one of the GPUs of a card where torch shows several."""

    id: str
    """Name in the catalogue: ``rtx-4090``."""
    name: str
    """Name that the driver reports: ``NVIDIA GeForce RTX 4090``."""
    aliases: tuple[str, ...] = ()
    marketed_gb: int
    driver_mib: int | None
    """``memory.total`` of the driver in MiB; None: no figure was found."""
    torch_mib: int | None
    """``total_memory`` of torch in MiB; None: no figure was found."""
    compute_capability: tuple[int, int] | None
    """None for GPUs that are not NVIDIA's."""
    bandwidth_gb_s: float
    """Of the memory, in GB (decimal) a second."""
    bf16_tflops: float | None
    """Dense bfloat16 with float32 accumulation."""
    fp16_tflops: float | None = None
    """Dense float16, of a card that has no bfloat16 units; else None."""
    pcie_gen: int
    pcie_lanes: int | None
    pcie_peer: bool | None
    """Whether two such cards copy over PCIe without the host; None: not known."""
    nvlink_gb_s: float | None
    """All links, both directions together; None: the card has none, or no figure is known."""
    nvlink_reach: str | None = None
    """``board``: every card of the board reaches every other; ``bridge``: two cards that a bridge
    joins; None without NVLink."""
    source: str
    """Title and address of the page the figures are from."""
    note: str = ""

    @property
    def capacity_bytes(self) -> int:
        """What a plan may count on before the reserve; see `capacity_source`."""
        if self.capacity_source == "marketed":
            return self.marketed_gb * GIB
        return (self.torch_mib or self.driver_mib) * MIB

    @property
    def tflops(self) -> float | None:
        """Of matrix products in 16 bits."""
        return self.bf16_tflops or self.fp16_tflops

    @property
    def capacity_source(self) -> str:
        """``torch``, ``driver`` or ``marketed``: the best figure that is known."""
        if self.torch_mib is not None:
            return "torch"
        return "driver" if self.driver_mib is not None else "marketed"


def gpu_ids() -> tuple[str, ...]:
    """Every GPU of the catalogue by its id, in the order of the file."""
    return tuple(_all())


def load_gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue, in the order of the file."""
    return tuple(_all().values())


def find_gpu(name: str) -> Gpu:
    """The GPU of a name that a person typed or a driver reported.

    Case, separators and brand words do not matter: ``RTX 4090``, ``rtx-4090``, ``4090`` and
    ``NVIDIA GeForce RTX 4090`` are one card.  A part of a name is enough where it fits one card.

    Raises
    ------
    InputError
        When no card or more than one has the name.
    """
    wanted = _words(name)
    exact = [gpu for gpu in _all().values() if wanted in _known_as(gpu)]
    if len(exact) == 1:
        return exact[0]
    part = [gpu.id for gpu in _all().values() if _is_part_of_a_name(wanted, gpu)]
    if not wanted or not part:
        hint = (
            nearest(name, gpu_ids()) or f"; `--gpus list` prints the {len(gpu_ids())} that it has"
        )
        raise InputError(f"no GPU named {name!r} in the catalogue{hint} (sizes work too: 24GiB)")
    if len(part) > 1:
        listing = f"{', '.join(part[:-1])} or {part[-1]}"
        raise InputError(f"GPU {name!r} may be {listing}; write one of these")
    return _all()[part[0]]


@cache
def known_gpu(name: str) -> Gpu | None:
    """The GPU of a name, as `find_gpu` finds it; None for a bare size and for unknown names: a
    driver may report one that the catalogue does not have."""
    if is_size(name):
        return None
    try:
        return find_gpu(name)
    except InputError:
        return None


def _words(name: str) -> frozenset[str]:
    """The words of a name without brands: ``RTX4060Ti 16 GB`` -> {rtx, 4060, ti, 16gb}."""
    text = re.sub(r"(\d)\s+(gb|gib)\b", r"\1\2", name.lower()).replace("gib", "gb")
    text = re.sub(r"\b(rtx|gtx)(?=\d)", r"\1 ", text)
    text = re.sub(r"(?<=\d)(ti|super)\b", r" \1", text)
    return frozenset(re.findall(r"[a-z0-9.]+", text)) - _BRANDS


def _is_part_of_a_name(wanted: frozenset[str], gpu: Gpu) -> bool:
    """Whether all words belong to one name of the card, its memory (``24gb``) among them."""
    memory = f"{gpu.marketed_gb}gb"
    return any(wanted <= known | {memory} for known in _known_as(gpu))


@cache
def _known_as(gpu: Gpu) -> tuple[frozenset[str], ...]:
    return tuple(_words(text) for text in (gpu.id, gpu.name, *gpu.aliases))


@cache
def _all() -> Mapping[str, Gpu]:
    raw = yaml.load(FILE.read_text(encoding="utf-8"), Loader=_LOADER)
    return {key: _gpu(key, entry, raw["sources"]) for key, entry in raw["gpus"].items()}


def _gpu(key: str, entry: Mapping[str, Any], sources: Mapping[str, Any]) -> Gpu:
    source = sources[entry["source"]]
    capability = entry["compute_capability"]
    return Gpu(
        id=key,
        name=entry["name"],
        aliases=tuple(entry.get("aliases", ())),
        marketed_gb=entry["marketed_gb"],
        driver_mib=entry["driver_mib"],
        torch_mib=entry["torch_mib"],
        compute_capability=tuple(map(int, capability.split("."))) if capability else None,
        bandwidth_gb_s=entry["bandwidth_gb_s"],
        bf16_tflops=entry["bf16_tflops"],
        fp16_tflops=entry.get("fp16_tflops"),
        pcie_gen=entry["pcie"]["gen"],
        pcie_lanes=entry["pcie"]["lanes"],
        pcie_peer=entry["pcie"]["peer"],
        nvlink_gb_s=entry["nvlink_gb_s"],
        nvlink_reach=entry.get("nvlink_reach"),
        source=" ".join(filter(None, (source["title"], source.get("address")))),
        note=entry.get("note", ""),
    )
