"""What the driver says: its version, its cards, who uses them.  torch is not asked.

Three sources, each where the one before is not there: ``nvidia-smi`` (comes with the driver),
NVML through the package ``nvidia-ml-py`` where it is installed, and ``/proc/driver/nvidia/version``
for the version alone.  The latest CUDA that the driver supports is what ``cuDriverGetVersion``
of the driver's own library says; it needs no context and takes no memory of a card.
"""

from __future__ import annotations

import csv
import ctypes
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from devplan.core import MIB, CardUse, DriverCard

TIMEOUT_S = 30
"""nvidia-smi takes seconds where the driver has to wake the cards."""

_PROC = Path("/proc/driver/nvidia/version")
_CARD_FIELDS = (
    "index",
    "name",
    "uuid",
    "pci.bus_id",
    "memory.total",
    "memory.free",
    "compute_cap",
    "driver_version",
)
_USE_FIELDS = ("gpu_uuid", "pid", "process_name", "used_memory")


@dataclass(frozen=True, kw_only=True)
class DriverFacts:
    """What the driver was asked."""

    version: str | None = None
    cuda: tuple[int, int] | None = None
    cards: tuple[DriverCard, ...] = ()
    uses: tuple[CardUse, ...] = ()
    notes: tuple[str, ...] = ()


def read_driver() -> DriverFacts:
    """The driver of this machine; empty where there is none."""
    cuda = latest_cuda()
    program = shutil.which("nvidia-smi")
    if program is not None:
        return _from_program(program, cuda)
    from_library = _from_nvml(cuda)
    if from_library is not None:
        return from_library
    version = version_in(_PROC.read_text(errors="replace")) if _PROC.is_file() else None
    notes = ()
    if version is not None or cuda is not None:
        notes = ("nvidia-smi was not found, so the driver's list of GPUs was not read",)
    return DriverFacts(version=version, cuda=cuda, notes=notes)


# ------------------------------------------------------------------------------- the program


def _from_program(program: str, cuda: tuple[int, int] | None) -> DriverFacts:
    try:
        text = _query(program, f"--query-gpu={','.join(_CARD_FIELDS)}")
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stdout", None) or str(error)).strip().splitlines() or [""]
        return DriverFacts(cuda=cuda, notes=(f"nvidia-smi fails: {said[0]}",))
    try:
        uses = uses_in(_query(program, f"--query-compute-apps={','.join(_USE_FIELDS)}"))
    except (OSError, subprocess.SubprocessError):
        uses = ()
    cards, version = cards_in(text)
    return DriverFacts(version=version, cuda=cuda, cards=cards, uses=uses)


def _query(program: str, what: str) -> str:
    done = subprocess.run(
        [program, what, "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    return done.stdout


def cards_in(text: str) -> tuple[tuple[DriverCard, ...], str | None]:
    """The cards of a ``--query-gpu`` with `_CARD_FIELDS`, and the driver's version."""
    cards, version = [], None
    for row in _rows(text, len(_CARD_FIELDS)):
        index, name, uuid, bus, total, free, capability, version = row
        if not (index.isdecimal() and total.isdecimal() and free.isdecimal()):
            continue  # [N/A] or an error in a row: a card that fell off the bus
        cards.append(
            DriverCard(
                index=int(index),
                name=name,
                uuid=uuid,
                pci_bus_id=bus,
                total_bytes=int(total) * MIB,
                free_bytes=int(free) * MIB,
                compute_capability=_pair(capability),
            )
        )
    return tuple(cards), version


def uses_in(text: str) -> tuple[CardUse, ...]:
    """The processes of a ``--query-compute-apps`` with `_USE_FIELDS`."""
    return tuple(
        CardUse(uuid=uuid, pid=int(pid), name=name, held_bytes=int(held) * MIB)
        for uuid, pid, name, held in _rows(text, len(_USE_FIELDS))
        if pid.isdecimal() and held.isdecimal()
    )


def _rows(text: str, width: int) -> list[list[str]]:
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [[cell.strip() for cell in row] for row in rows if len(row) == width]


def version_in(text: str) -> str | None:
    """The release in ``/proc/driver/nvidia/version``."""
    found = re.search(r"NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", text)
    return found[1] if found else None


# ------------------------------------------------------------------------------- the libraries


def latest_cuda() -> tuple[int, int] | None:
    """The latest CUDA that the driver supports; None without a driver."""
    names = ("nvcuda.dll",) if sys.platform == "win32" else ("libcuda.so.1", "libcuda.so")
    for name in names:
        try:
            library = ctypes.CDLL(name)
            number = ctypes.c_int(0)
            if library.cuDriverGetVersion(ctypes.byref(number)) == 0 and number.value:
                # [1000 * major + 10 * minor], CUDA Driver API, cuDriverGetVersion.
                return number.value // 1000, number.value % 1000 // 10
        except (OSError, AttributeError):
            continue
    return None


def _from_nvml(cuda: tuple[int, int] | None) -> DriverFacts | None:
    """Through nvidia-ml-py; None where it is not installed or finds no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # not installed, or NVMLError of a kind that only the package knows
        return None
    try:
        version = _text(pynvml.nvmlSystemGetDriverVersion())
        indices = range(pynvml.nvmlDeviceGetCount())
        cards = tuple(_nvml_card(pynvml, index) for index in indices)
        return DriverFacts(version=version, cuda=cuda, cards=cards)
    except pynvml.NVMLError as error:
        return DriverFacts(cuda=cuda, notes=(f"NVML fails: {error}",))
    finally:
        pynvml.nvmlShutdown()


def _nvml_card(pynvml, index: int) -> DriverCard:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return DriverCard(
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        pci_bus_id=_text(pynvml.nvmlDeviceGetPciInfo(handle).busId),
        total_bytes=memory.total,
        free_bytes=memory.free,
        compute_capability=tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
    )


def _text(value: str | bytes) -> str:
    """Releases of nvidia-ml-py before 11.515 give bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _pair(text: str) -> tuple[int, int] | None:
    numbers: Sequence[str] = text.split(".")
    return (int(numbers[0]), int(numbers[1])) if all(n.isdecimal() for n in numbers[:2]) else None
