"""What joins the cards: ``--links``, or what the names of the cards tell.

``--links`` is a list.  An item is a link, for all pairs of cards that no other item names, or the
cards that it joins, a colon and a link: ``0-1:nvlink3,2-3:nvlink3,pcie4x16-host``.  More than two
cards are joined each with each (``0-1-2-3:nvlink``); ``cpu`` is the host (``0-cpu:pcie3x8``).

=================  ============================================================
``pcie4x16``       over PCIe from card to card, generation and lanes given
``pcie4x16-host``  over PCIe through the host's memory
``peer``, ``host`` the same, with what the catalogue knows of the cards' PCIe
``nvlink4``        all NVLinks of one GPU of that generation
``nvlink``         the same, with what the catalogue knows of the cards
``50GB/s``         a bandwidth in one direction, as copies reach it
``measured``       alone: copies between the GPUs of this machine are timed
=================  ============================================================

Without ``--links``, two cards of one kind have the NVLink of their board, or else PCIe from card
to card where that kind can; cards of different kinds, GeForce cards and cards that are not known
copy through the host.  A bridge is never assumed: it is bought extra.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

from devplan.catalog import Gpu, LinkKind
from devplan.catalog import links as catalogue
from devplan.core import (
    CPU,
    MIB,
    OFFLOAD_DEVICES,
    Card,
    InputError,
    Link,
    Machine,
    is_size,
    parse_bytes,
)
from devplan.machine.gpu_facts import gpu_of

if TYPE_CHECKING:
    import torch


MEASURED = "measured"
ASSUMED_PCIE = (4, 16)
"""Generation and lanes where the catalogue does not know: what most cards of it have."""
LANES = (1, 2, 4, 8, 16)

_JOINED = re.compile(r"([0-9a-z]+(?:-[0-9a-z]+)+):(.+)")
_PCIE = re.compile(r"pcie([0-9])x([0-9]{1,2})(-host)?")
_NVLINK = re.compile(r"nvlink([0-9]?)")
_FORMS = "pcie4x16, pcie4x16-host, nvlink, nvlink4, host, peer or 50GB/s, for some GPUs 0-1:nvlink"


def with_links(machine: Machine, links: str | None = None) -> Machine:
    """The machine with every pair of its cards, and each card and the host, joined.

    Parameters
    ----------
    links
        As ``--links`` takes it; None: by the names of the cards.

    Raises
    ------
    InputError
        When an item cannot be read, or names cards that are not there.
    """
    if links is not None and links.strip().lower() == MEASURED:
        return replace(machine, links=measured_links(machine))
    given = _given(machine, links) if links is not None else {}
    default = given.pop(frozenset(), None)
    joined = tuple(_link(a, b, given, default) for a, b in combinations(machine.cards, 2))
    to_host = tuple(_host_link(card, given, default) for card in machine.cards)
    return replace(machine, links=joined + to_host)


def link_between(machine: Machine, source: str, target: str) -> Link:
    """The link of two devices, as the machine has it or else as it is assumed."""
    ends = {CPU if d in OFFLOAD_DEVICES else d for d in (source, target)}
    for link in machine.links:
        if {link.source, link.target} == ends:
            return link
    kind = catalogue.pcie_memory if CPU in ends else catalogue.pcie_host
    return _as_link(source, target, kind(*ASSUMED_PCIE), "assumed")


# ---------------------------------------------------------------------------------- by names


def _link(a: Card, b: Card, given: Mapping[frozenset[str], str], default: str | None) -> Link:
    text = given.get(frozenset((a.device, b.device)), default)
    if text is not None:
        return _as_link(a.device, b.device, _kind(text, a, b), "given")
    known, other = gpu_of(a), gpu_of(b)
    basis = "assumed" if known is None or other is None else "catalogue"
    return _as_link(a.device, b.device, _kind_by_names(known, other), basis)


def _kind_by_names(a: Gpu | None, b: Gpu | None) -> LinkKind:
    if a is not None and a == b:
        if a.nvlink_reach == "board" and a.nvlink_gb_s:
            return catalogue.nvlink_of(a.nvlink_gb_s)
        if a.pcie_peer:
            return catalogue.pcie_peer(*_pcie(a, b))
    return catalogue.pcie_host(*_pcie(a, b))


def _host_link(card: Card, given: Mapping[frozenset[str], str], default: str | None) -> Link:
    text = given.get(frozenset((card.device, CPU)))
    pcie = _PCIE.fullmatch(text or default or "")
    if text is not None and pcie is None:
        kind = _kind(text, card, card)
    else:
        ways = (int(pcie[1]), int(pcie[2])) if pcie else _pcie(gpu_of(card), gpu_of(card))
        kind = catalogue.pcie_memory(*ways)
    basis = "given" if text is not None or pcie else "catalogue"
    return _as_link(card.device, CPU, kind, basis if gpu_of(card) or pcie or text else "assumed")


def _pcie(a: Gpu | None, b: Gpu | None) -> tuple[int, int]:
    """Generation and lanes of the slower of two cards."""
    ends = [_pcie_of(gpu) for gpu in (a, b)]
    return min(ends, key=lambda end: 2 ** end[0] * end[1])


def _pcie_of(gpu: Gpu | None) -> tuple[int, int]:
    if gpu is None:
        return ASSUMED_PCIE
    return gpu.pcie_gen, gpu.pcie_lanes or ASSUMED_PCIE[1]


def _as_link(source: str, target: str, kind: LinkKind, basis: str) -> Link:
    return Link(
        source=source,
        target=target,
        name=kind.name,
        bytes_per_s=kind.bytes_per_s,
        latency_s=kind.latency_s,
        basis=basis,
    )


# -------------------------------------------------------------------------------- as written


def _given(machine: Machine, links: str) -> dict[frozenset[str], str]:
    """Two devices -> the link that was written for them; no devices -> for all others."""
    found: dict[frozenset[str], str] = {}
    for item in (part.strip().lower() for part in links.split(",")):
        if not item:
            raise InputError(f"--links {links!r} has an empty item; give {_FORMS}")
        joined = _JOINED.fullmatch(item)
        text = joined[2].strip() if joined else item
        _check(text, links)
        pairs = _pairs(machine, joined[1], item) if joined else [frozenset()]
        for pair in pairs:
            if pair in found:
                who = " and ".join(sorted(pair)) or "all other cards"
                hint = "" if pair else "; write which GPUs one is for, such as 0-1:nvlink"
                raise InputError(f"--links {links} gives {who} two links{hint}")
            found[pair] = text
    return found


def _pairs(machine: Machine, ends: str, item: str) -> list[frozenset[str]]:
    devices = []
    for end in ends.split("-"):
        device = end if end == CPU else f"cuda:{end}"
        if device != CPU and device not in machine.devices:
            known = ", ".join(each.removeprefix("cuda:") for each in machine.devices)
            raise InputError(f"--links {item}: {end} is not a GPU; there are {known} and cpu")
        devices.append(device)
    if len(set(devices)) < len(devices):
        raise InputError(f"--links {item} joins a GPU to itself; name two GPUs")
    return [frozenset(pair) for pair in combinations(devices, 2)]


def _check(text: str, links: str) -> None:
    """Refuse what is not a link, before it is asked which cards it joins."""
    if text == MEASURED:
        raise InputError(f"--links {links}: measured stands alone")
    pcie, nvlink = _PCIE.fullmatch(text), _NVLINK.fullmatch(text)
    if pcie is not None:
        generations = catalogue.pcie_generations()
        if int(pcie[1]) not in generations or int(pcie[2]) not in LANES:
            raise InputError(
                f"--links {text}: PCIe generations are {_listed(generations)}, lanes "
                f"{_listed(LANES)}"
            )
    elif nvlink is not None:
        generations = catalogue.nvlink_generations()
        if nvlink[1] and int(nvlink[1]) not in generations:
            raise InputError(f"--links {text}: NVLink generations are {_listed(generations)}")
    elif text not in ("host", "peer") and not _bytes_per_s(text):
        raise InputError(f"--links: {text!r} is not a link; give {_FORMS}")


def _kind(text: str, a: Card, b: Card) -> LinkKind:
    pcie, nvlink = _PCIE.fullmatch(text), _NVLINK.fullmatch(text)
    if pcie is not None:
        make = catalogue.pcie_host if pcie[3] else catalogue.pcie_peer
        return make(int(pcie[1]), int(pcie[2]))
    if nvlink is not None:
        return _nvlink(int(nvlink[1]), a, b) if nvlink[1] else _known_nvlink(a, b)
    if text in ("host", "peer"):
        make = catalogue.pcie_host if text == "host" else catalogue.pcie_peer
        return make(*_pcie(gpu_of(a), gpu_of(b)))
    return catalogue.stated(_bytes_per_s(text))


def _nvlink(generation: int, a: Card, b: Card) -> LinkKind:
    """A bridge has fewer links than a board of the same generation: a card's own figure counts."""
    known = [gpu.nvlink_gb_s for card in (a, b) if (gpu := gpu_of(card)) and gpu.nvlink_gb_s]
    figure = min([catalogue.nvlink_gb_s(generation), *known])
    return catalogue.nvlink_of(figure, f"NVLink {generation}")


def _known_nvlink(a: Card, b: Card) -> LinkKind:
    figures = []
    for card in (a, b):
        gpu = gpu_of(card)
        if gpu is None or gpu.nvlink_gb_s is None:
            raise InputError(
                f"--links nvlink: no NVLink is known of {card.device} ({card.name}); give its "
                "generation (nvlink3), a bandwidth (50GB/s), or name the GPUs that have one "
                "(0-1:nvlink)"
            )
        figures.append(gpu.nvlink_gb_s)
    return catalogue.nvlink_of(min(figures))


def _bytes_per_s(text: str) -> int:
    size = text.removesuffix("/s")
    return parse_bytes(size) if size != text and is_size(size) else 0


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


# Measured links. Copies are made as accelerate's hooks make them: ``tensor.to(device)``, from
# pageable memory where the host takes part. The bandwidth is that of a large copy, the latency
# that of a copy of a few bytes, each the median of several; both are rounded to two digits, so
# that two measurements of one machine give one map. Only ``--links measured`` measures: it makes
# a CUDA context on every GPU.

LARGE_BYTES = 64 * MIB
"""10 ms over the slowest link that is in use, PCIe 3.0 x8; latencies are 0.1 % of that."""
SMALL_BYTES = 16
NUM_COPIES = 7


def measured_links(machine: Machine) -> tuple[Link, ...]:
    """The links of all pairs of cards, and of each card with the host.

    Raises
    ------
    InputError
        When the cards are not the GPUs of this machine.
    """
    import torch

    _refuse_others(machine, torch.cuda.device_count(), torch)
    pairs = combinations(machine.cards, 2)
    joined = tuple(_measured(a.device, b.device, _way(a, b, torch), torch) for a, b in pairs)
    hosts = tuple(_measured(card.device, CPU, "host memory", torch) for card in machine.cards)
    return joined + hosts


def _refuse_others(machine: Machine, seen: int, torch) -> None:
    for card in machine.cards:
        index = int(card.device.removeprefix("cuda:"))
        here = torch.cuda.get_device_properties(index) if index < seen else None
        if here is None or (here.name, here.total_memory) != (card.name, card.capacity_bytes):
            raise InputError(
                f"--links measured times copies between GPUs of this machine (torch sees {seen}), "
                f"and {card.device} ({card.name}) is none; name local ones (--gpus 0,1) or give "
                "the links, such as --links pcie4x16"
            )


def _way(a: Card, b: Card, torch) -> str:
    """What the copies went over, as far as the driver tells."""
    first, second = (int(card.device.removeprefix("cuda:")) for card in (a, b))
    if not torch.cuda.can_device_access_peer(first, second):
        return "through the host"
    has_nvlink = all((gpu := gpu_of(card)) is not None and gpu.nvlink_gb_s for card in (a, b))
    return "from GPU to GPU, NVLink or PCIe" if has_nvlink else "PCIe from GPU to GPU"


def _measured(source: str, target: str, way: str, torch) -> Link:
    """The slower direction counts."""
    ends = ((source, target), (target, source))
    latency_s = max(copy_seconds(a, b, SMALL_BYTES, torch) for a, b in ends)
    large_s = max(copy_seconds(a, b, LARGE_BYTES, torch) for a, b in ends)
    bandwidth = LARGE_BYTES / max(large_s - latency_s, 1e-9)
    return Link(
        source=source,
        target=target,
        name=f"{way} (measured)",
        bytes_per_s=int(_two_digits(bandwidth)),
        latency_s=_two_digits(latency_s),
        basis="measured",
    )


def copy_seconds(source: str, target: str, num_bytes: int, torch) -> float:
    """Median time of a copy, until it has arrived."""
    tensor = torch.empty(num_bytes, dtype=torch.uint8, device=source)
    cards = [device for device in (source, target) if device != CPU]

    def copy() -> torch.Tensor:
        copied = tensor.to(target)
        for card in cards:
            torch.cuda.synchronize(card)
        return copied

    copy()  # the first one opens peer access and takes memory from the driver
    return statistics.median(_timed(copy) for _ in range(NUM_COPIES))


def _timed(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}")
