"""The ``devplan suggest`` that makes a map again, for the cards that are here.

Everything that the map says of how it came about is an argument again: model and revision,
workload, objective, reserve, pins of the user, offload, links that the user gave.  Where the
machine has no GPUs, the cards are those of the map.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from devplan.core import (
    CPU,
    MIB,
    OFFLOAD_DEVICES,
    Card,
    DeviceMapFile,
    Environment,
    Link,
    Machine,
    is_inside,
    is_size,
)
from devplan.machine import CONTEXT_BYTES, default_reserve, gpu_of

BALANCE = "balance"
BY_USER = "user"


def renewal_command(map_file: DeviceMapFile, environment: Environment) -> str:
    """The command line.

    Examples
    --------
    ``devplan suggest Qwen/Qwen2.5-VL-7B-Instruct --gpus 0,1 --context 32768 --dtype bfloat16``
    """
    words = ["devplan", "suggest", map_file.model.id, *_arguments(map_file, environment)]
    return shlex.join(words)


def _arguments(map_file: DeviceMapFile, environment: Environment) -> Iterator[str]:
    if map_file.model.revision:
        yield from ("--revision", map_file.model.revision)
    devices = tuple(card.device for card in environment.cards) or map_file.machine.devices
    yield from _machine_arguments(map_file, environment, devices)
    yield from _workload_arguments(map_file)
    if map_file.certificate.objective != BALANCE:
        yield from ("--objective", map_file.certificate.objective)
    for module, device in user_pins(map_file).items():
        if device in (*devices, *OFFLOAD_DEVICES):
            yield from ("--pin", f"{module}={device}")
    if _has_no_default_pins(map_file):
        yield "--no-pin"
    for tier in map_file.machine.tiers:
        size = "" if tier.capacity_bytes is None else f"={_size(tier.capacity_bytes)}"
        yield from ("--offload", f"{tier.device}{size}")
    if map_file.model.packed:
        yield "--packed"
    if map_file.model.quantize is not None:
        yield from ("--quantize", map_file.model.quantize)
    if map_file.model.auto_class:
        yield "--trust-remote-code"


def _machine_arguments(
    map_file: DeviceMapFile, environment: Environment, devices: tuple[str, ...]
) -> Iterator[str]:
    machine = map_file.machine
    local = bool(environment.cards)
    if local:
        yield from ("--gpus", ",".join(map(_end, devices)))
        yield from _memory_left(environment)
    else:
        yield from _as_planned(machine)
    if machine.main_device != devices[0] and machine.main_device in devices:
        yield from ("--main", machine.main_device)
    reserves = _reserves(machine, devices)
    if reserves:
        yield from ("--reserve", reserves)
    same_cards = not local or devices == machine.devices
    links = _links(map_file, same_cards, local)
    if links:
        yield from ("--links", links)


def _memory_left(environment: Environment) -> Iterator[str]:
    """Sizes to plan with where other processes hold more of a card than a CUDA context takes."""
    if any(card.taken_bytes > CONTEXT_BYTES for card in environment.cards):
        rooms = (card.room_bytes // MIB for card in environment.cards)
        yield from ("--memory", ",".join(f"{room}MiB" for room in rooms))


def _as_planned(machine: Machine) -> Iterator[str]:
    """The cards of the map, for a machine that does not have them."""
    words = [_card_word(card) for card in machine.cards]
    if machine.devices == tuple(f"cuda:{index}" for index in range(len(words))):
        runs = [(word, len(list(run))) for word, run in groupby(words)]
        cards = ",".join(f"{count}x{word}" if count > 1 else word for word, count in runs)
        yield from ("--gpus", cards)
    else:
        yield from ("--gpus", ",".join(map(_end, machine.devices)), "--memory", ",".join(words))


def _card_word(card: Card) -> str:
    """Its name where ``--gpus`` reads it, else its size."""
    gpu = gpu_of(card)
    if gpu is not None:
        return gpu.id
    return card.name if is_size(card.name) else _size(card.capacity_bytes)


def _reserves(machine: Machine, devices: tuple[str, ...]) -> str:
    """``2GiB`` or ``0=2GiB,1=1GiB``; empty where the map has the default everywhere."""
    if all(card.reserve_bytes == default_reserve(card.capacity_bytes) for card in machine.cards):
        return ""
    sizes = {card.device: card.reserve_bytes for card in machine.cards}
    if len(set(sizes.values())) == 1:
        return _size(next(iter(sizes.values())))
    pairs = [(device, sizes[device]) for device in devices if device in sizes]
    return ",".join(f"{device.removeprefix('cuda:')}={_size(size)}" for device, size in pairs)


def _links(map_file: DeviceMapFile, same_cards: bool, local: bool) -> str:
    links = map_file.machine.links
    if local and any(link.basis == "measured" for link in links):
        return "measured"
    return links_option(links) if same_cards else ""


def _end(device: str) -> str:
    return device.removeprefix("cuda:")


def _workload_arguments(map_file: DeviceMapFile) -> Iterator[str]:
    workload = map_file.workload
    if workload.batch > 1:
        yield from ("--batch", str(workload.batch))
    # [context] the objective of most tokens found its own context, which is no wish of the user's.
    if map_file.certificate.objective != "context":
        yield from ("--context", str(workload.tokens))
    if workload.dtype:
        yield from ("--dtype", workload.dtype)
    if workload.kv_dtype:
        yield from ("--kv-dtype", workload.kv_dtype)
    if workload.images is not None:
        yield from ("--images", str(workload.images))
    if workload.image_size:
        yield from ("--image-size", "{}x{}".format(*workload.image_size))
    if workload.frames is not None:
        yield from ("--frames", str(workload.frames))
    if workload.tiling:
        yield "--tiling"


def user_pins(map_file: DeviceMapFile) -> Mapping[str, str]:
    """Module -> device, as few as say the same of all blocks that the user pinned.

    A block stands for itself unless an entry of the map covers it and blocks of the same pin only.
    """
    pinned = {pin.block: pin.device for pin in map_file.pins if pin.reason == BY_USER}
    others = [pin.block for pin in map_file.pins if pin.reason != BY_USER]
    found: dict[str, str] = {}
    for block, device in pinned.items():
        around = [
            entry
            for entry, where in map_file.device_map.items()
            if entry
            and where == device
            and is_inside(block, entry)
            and not any(is_inside(other, entry) for other in others)
        ]
        found[min(around, key=len, default=block)] = device
    return found


def _has_no_default_pins(map_file: DeviceMapFile) -> bool:
    """Whether ``--no-pin`` was given: else every map of several cards has some or let some go."""
    by_default = any(pin.reason != BY_USER for pin in map_file.pins)
    return len(map_file.machine.cards) > 1 and not by_default and not map_file.relaxed


def _size(num_bytes: int) -> str:
    """The bytes exactly, in the largest unit that has them as a whole number."""
    for exponent, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if num_bytes and num_bytes % 1024**exponent == 0:
            return f"{num_bytes // 1024**exponent}{unit}"
    return f"{num_bytes}B" if num_bytes else "0"


# The inverse of ``devplan.machine.links``: what ``--links`` takes.


_PCIE = re.compile(r"PCIe (\d)\.0 x(\d+)( through the host)?")
_NVLINK = re.compile(r"NVLink ?(\d?)")
_HOST = "-host"


def links_option(links: Sequence[Link]) -> str:
    """``pcie4x16`` where all cards are joined alike, else ``0-1:nvlink3,0-cpu:pcie4x16``; may be
    empty.

    Only what the user gave or measured is told: the rest follows from the names of the cards.
    """
    told = [link for link in links if link.basis in ("given", "measured")]
    untold = [link for link in links if link not in told and not _to_host(link)]
    between = {link_word(link) for link in told if not _to_host(link)}
    if untold or len(between) != 1:
        return ",".join(map(_pair, told))
    (word,) = between
    implied = word.removesuffix(_HOST) if _is_pcie(word) else None
    to_host = [link for link in told if _to_host(link) and link_word(link) != implied]
    return ",".join([word, *map(_pair, to_host)])


def link_word(link: Link) -> str:
    """``pcie4x16-host``, ``nvlink3`` or ``50GB/s``."""
    pcie, nvlink = _PCIE.fullmatch(link.name), _NVLINK.fullmatch(link.name)
    if pcie:
        return f"pcie{pcie[1]}x{pcie[2]}{_HOST if pcie[3] else ''}"
    if nvlink:
        return f"nvlink{nvlink[1]}"
    giga, rest = divmod(link.bytes_per_s, 10**9)
    return f"{link.bytes_per_s}B/s" if rest else f"{giga}GB/s"


def _to_host(link: Link) -> bool:
    return CPU in (link.source, link.target)


def _is_pcie(word: str) -> bool:
    return word.startswith("pcie")


def _pair(link: Link) -> str:
    ends = (end.removeprefix("cuda:") for end in (link.source, link.target))
    return f"{'-'.join(ends)}:{link_word(link)}"
