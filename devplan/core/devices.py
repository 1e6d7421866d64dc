"""The border to hf_device_map: devices as devplan writes them, and as Hugging Face does.

Inside devplan a device is always text with its index, as torch writes it: ``"cuda:2"``.
transformers and accelerate keep the devices of the default accelerator as bare integers:
``2``.  Both directions are here and nowhere else, so that everything else may compare devices
as text.

A bare integer means "that accelerator of this machine": CUDA, or the one accelerator of another
kind where there is no CUDA.  devplan plans for CUDA, and reads it so.  Text digits (``"2"``) are
refused: torch knows no such device, and the model would fail while it is being loaded.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from devplan.core.arguments import described, mapping
from devplan.core.errors import InputError
from devplan.core.spelling import near_names
from devplan.core.types import CPU, DISK, OFFLOAD_DEVICES, Machine
from devplan.core.units import parse_whole

# The device types that accelerate dispatches to: accelerate.big_modeling.dispatch_model and
# accelerate.utils.modeling.check_device_same (1.15.0).
INDEXED_KINDS = ("cuda", "xpu", "npu", "mlu", "musa", "sdaa", "hpu")
UNINDEXED = (CPU, DISK, "mps")

MAX_INDEX = 127
"""PyTorch counts the devices of a kind in eight bits (c10/core/Device.h)."""

_INDEX = r"(0|[1-9][0-9]?|1[01][0-9]|12[0-7])"
DEVICE_PATTERN = f"^({'|'.join(UNINDEXED)}|({'|'.join(INDEXED_KINDS)}):{_INDEX})$"
"""What a device must look like inside devplan; JSON Schema takes it as it is."""

_DEVICE = re.compile(DEVICE_PATTERN)
_CUDA = re.compile(f"cuda:{_INDEX}")
_BEYOND = re.compile(f"({'|'.join(INDEXED_KINDS)}):[1-9][0-9]*")
_WRITTEN = re.compile(r"([a-z]+)[\s:_-]?([0-9]{0,3})")
_CALLED_CUDA = frozenset({"gpu", "card", "device", "nvidia", "rocm", "hip"})
_FORMS = "write 0, cuda:0, cpu or disk"


def to_hf_device_map(device_map: Mapping[str, str]) -> dict[str, int | str]:
    """The map as ``from_pretrained(device_map=...)`` takes it: ``"cuda:2"`` becomes ``2``."""
    return {entry: to_hf_device(device) for entry, device in device_map.items()}


def to_hf_device(device: str) -> int | str:
    """One device as a value of hf_device_map."""
    match = _CUDA.fullmatch(device)
    return int(match[1]) if match else device


def from_hf_device_map(mapping: Mapping[str, Any]) -> dict[str, str]:
    """The map in devplan's device strings, from whatever hf_device_map values hold.

    Parameters
    ----------
    mapping
        Entry -> integer, text or ``torch.device``.

    Raises
    ------
    InputError
        When a name is not text or a value is not a device.
    """
    devices = {}
    for entry, value in mapping.items():
        if not isinstance(entry, str):
            raise InputError(
                f"device_map holds the name {entry!r}, which is not text; write it in quotes"
            )
        devices[entry] = from_hf_device(value, where=f"device_map entry {entry!r}")
    return devices


def from_hf_device(value: Any, *, where: str = "device") -> str:
    """One value of hf_device_map as a device of devplan; `where` opens the message.

    Raises
    ------
    InputError
        When the value is not a device.
    """
    if isinstance(value, bool):
        raise InputError(f"{where}: {value} is not a device; {_FORMS}")
    if isinstance(value, numbers.Integral):  # numpy's among them
        if not 0 <= value <= MAX_INDEX:
            raise InputError(
                f"{where}: {_shown(value)} is not a device index, these are 0 to "
                f"{MAX_INDEX}; {_FORMS}"
            )
        return f"cuda:{int(value)}"
    # [torch.device] its text is what torch reads; its class is not imported for that.
    text = str(value) if isinstance(value, str) or _is_torchs(value) else ""
    if text in INDEXED_KINDS:
        return f"{text}:0"
    if _DEVICE.fullmatch(text):
        return text
    raise InputError(f"{where}: {_refusal(value, text)}")


def _is_torchs(value: Any) -> bool:
    return hasattr(value, "type") and hasattr(value, "index")


def _shown(value: Any) -> str:
    """A value as it was written where that is short, else what it is."""
    if type(value).__module__ != "builtins":
        return described(value)
    is_number = isinstance(value, int) and abs(value) < 2**63
    return repr(value) if is_number or isinstance(value, float) or not value else described(value)


def _refusal(value: Any, text: str) -> str:
    if text.isdecimal():
        number = parse_whole(text)
        return f"{value!r} is text, and torch knows no device of that name; write {number}"
    if _BEYOND.fullmatch(text):
        return f"{text[:24]!r} is not a device, indices are 0 to {MAX_INDEX}; {_FORMS}"
    if not text:
        return f"{_shown(value)} is not a device; {_FORMS}"
    near = ", ".join(_meant(text))
    return f"{value!r} is not a device; " + (f"did you mean {near}?" if near else _FORMS)


def _meant(text: str) -> list[str]:
    """The devices that other text may stand for: ``gpu1``, ``cuda-1``, ``cdua:1``, ``cpu:0``."""
    match = _WRITTEN.fullmatch(text.strip().lower())
    if match is None:
        return []
    index = int(match[2] or 0)
    if match[1] in _CALLED_CUDA:
        return [f"cuda:{index}"]
    kinds = near_names(match[1], INDEXED_KINDS + UNINDEXED)
    return [f"{kind}:{index}" if kind in INDEXED_KINDS else kind for kind in kinds]


def read_device(name: str, device: Any) -> str:
    """A device of a Python caller, in devplan's words."""
    return from_hf_device(device, where=name)


def read_pins(name: str, pins: Any) -> dict[str, str]:
    """Module -> device of a Python caller, in devplan's words."""
    given = mapping('modules and devices: {"lm_head": "cuda:1"}')(name, pins)
    return {
        module: from_hf_device(device, where=f"{name} entry {module!r}")
        for module, device in given.items()
    }


def order_entries(device_map: Mapping[str, str], main_device: str) -> dict[str, str]:
    """The same entries, one of the main device first, the rest in their order.

    accelerate 0.34 to 1.14 takes the first GPU of the map as the main device when it is not told
    another (``dispatch_model``); 1.15 takes any of a set, which for integers is the lowest.
    Which entry wins never depends on the order.  Nothing changes where no entry lies on the
    main device.
    """
    first = next((name for name, device in device_map.items() if device == main_device), None)
    if first is None:
        return dict(device_map)
    return {first: main_device} | {name: d for name, d in device_map.items() if name != first}


def normalise_device(text: str | int, machine: Machine) -> str:
    """The machine's own name of a device typed as ``0``, ``cuda:0``, ``cpu`` or ``disk``.

    Raises
    ------
    InputError
        When the machine has no such card, or that kind of offloading was not allowed.
    """
    typed = str(text).strip().lower()
    if typed in OFFLOAD_DEVICES:
        if typed in (tier.device for tier in machine.tiers):
            return typed
        raise InputError(
            f"{typed} may not be used: nothing is offloaded unless asked for; "
            f"add --offload {typed}" + ("=64GiB" if typed == "cpu" else "")
        )
    for device in machine.devices:
        if typed in (device, device.rpartition(":")[2]):
            return device
    raise InputError(f"no device {text} in this machine; it has {', '.join(machine.devices)}")


# accelerate moves the inputs of the whole model to a main device before anything runs. A caller
# can name it (``dispatch_model(main_device=...)``), but transformers does not
# (``accelerate_dispatch`` in ``integrations/accelerate.py``, 5.23), and then accelerate takes the
# first element of a Python set of the devices in the map (``big_modeling.py``, 1.15). Of a set of
# small integers that is the lowest, whatever the order of the entries. A map with another main
# device still runs: token ids and masks take a detour over the lowest GPU, and code that expects
# inputs beside the embedding may not find them there.
#
# accelerate 0.34 to 1.14 took the first value of the map that is neither cpu nor disk.


def main_device_notes(devices_in_use: Iterable[str], machine: Machine) -> tuple[str, ...]:
    """What to do where the main device of the plan is not the one that accelerate would take."""
    cards = sorted({_index(device) for device in devices_in_use if device not in OFFLOAD_DEVICES})
    main = _index(machine.main_device)
    if len(cards) < 2 or cards[0] == main:
        return ()
    return (
        f"from_pretrained will send the inputs to cuda:{cards[0]} first and not to the main device "
        f"cuda:{main}: it tells accelerate of no main device, which then takes the lowest index in "
        f"the map; make the main GPU the lowest (CUDA_VISIBLE_DEVICES={_main_first(main, machine)}"
        " and --gpus in that order), or load on the CPU and call "
        f'accelerate.dispatch_model(model, device_map, main_device="cuda:{main}")',
    )


_SET_SINCE = (1, 15)
"""The first release of accelerate that takes any of a set; tests ask the releases themselves."""


def chosen_by_accelerate(devices: Sequence[str], version: str) -> str | None:
    """The main device for the devices of a map in their order; None where there is no card."""
    cards = [device for device in devices if device not in OFFLOAD_DEVICES]
    if not cards:
        return None
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers and (int(numbers[1]), int(numbers[2])) < _SET_SINCE:
        return cards[0]
    return min(cards, key=_index_of_any)


def _index_of_any(device: str) -> int:
    """The index of a device of any kind; 0 where it has none."""
    index = device.partition(":")[2]
    return int(index) if index.isdecimal() else 0


def _main_first(main: int, machine: Machine) -> str:
    others = (_index(device) for device in machine.devices)
    return ",".join(map(str, [main, *(index for index in others if index != main)]))


def _index(device: str) -> int:
    return int(device.removeprefix("cuda:"))
