"""The options of the command line that describe a machine, read together."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence
from typing import Any

from devplan.core import (
    GIB,
    MIB,
    OFFLOAD_DEVICES,
    InputError,
    Machine,
    OffloadTier,
    accepts,
    nearest,
    optional,
    text,
    texts,
    wrong,
)
from devplan.machine.cards import MAX_INDEX, find_device, read_cards, read_size
from devplan.machine.links import with_links
from devplan.machine.reserve import with_reserve

MachineLike = Machine | str | int | Sequence[str | int]
"""Cards as every function of devplan takes them."""

MOST_BYTES = 2**63
"""No number of bytes is larger anywhere; Python refuses to write numbers without bound."""
_CARDS = 'cards as text ("24GiB,12GiB") or as a list of sizes, names or local indices'


def as_machine(name: str, machine: Any, *, reserve: str | None = None) -> Machine:
    """The machine that a Python caller means; text as ``--gpus`` takes it.

    Parameters
    ----------
    name
        Of the argument, for messages.
    machine
        A `Machine`, text, or a list of sizes (text, or bytes as a number), names and local indices.
    reserve
        Kept free on each card, of a machine that is no `Machine` yet.

    Raises
    ------
    InputError
        For anything else.
    """
    if isinstance(machine, Machine):
        return machine
    accepted = f"{_CARDS}, or a Machine of devplan.parse_gpus"
    return parse_gpus(cards_text(name, machine, accepted), reserve=reserve)


def cards_text(name: str, cards: Any, accepted: str = _CARDS) -> str:
    """Cards in any of their forms as one text for ``--gpus``."""
    if isinstance(cards, list | tuple) and cards:
        return ",".join(_card_text(name, card, accepted) for card in cards)
    return _card_text(name, cards, accepted)


def _card_text(name: str, card: Any, accepted: str) -> str:
    if isinstance(card, str):
        return card
    is_number = isinstance(card, numbers.Integral) and not isinstance(card, bool)
    if is_number and 0 <= card < MOST_BYTES:
        return _number_text(operator.index(card))
    if type(card).__module__ == "torch" and type(card).__name__ == "device":
        return str(card)
    raise wrong(name, card, accepted)


def _number_text(number: int) -> str:
    """An index of a local GPU, or a number of bytes where it is too large for one."""
    if number <= MAX_INDEX:
        return str(number)
    for unit, suffix in ((GIB, "GiB"), (MIB, "MiB")):
        if number % unit == 0:
            return f"{number // unit}{suffix}"
    return f"{number}B"


def _device_text(name: str, device: Any) -> str:
    is_number = isinstance(device, numbers.Integral) and not isinstance(device, bool)
    if not is_number and not isinstance(device, str) and type(device).__name__ != "device":
        raise wrong(name, device, "a GPU such as 1 or cuda:1")
    return str(device)


_size = text('a size such as "1GiB"', empty=True)


@accepts(
    gpus=cards_text,
    memory=optional(cards_text),
    reserve=optional(_size),
    main=optional(_device_text),
    offload=texts('tiers such as "cpu=64GiB" or "disk"'),
    links=optional(text('links such as "pcie4x16"', empty=True)),
)
def parse_gpus(
    gpus: str | int | Sequence[str | int],
    *,
    memory: str | Sequence[str | int] | None = None,
    reserve: str | None = None,
    main: str | int | None = None,
    offload: Sequence[str] = (),
    links: str | None = None,
) -> Machine:
    """The machine that the options describe.

    Parameters
    ----------
    gpus
        Comma-separated cards (`devplan.machine.cards`): ``0,1``, ``24GiB,12GiB``,
        ``2xa100-80gb,rtx-4090``; ``all`` or ``auto`` for the GPUs of this machine.  Indices
        without `memory` are looked up through torch, which is imported only then.  Or a list
        of these, with numbers for indices and for bytes.
    memory
        Sizes or catalogue names of the cards given by index, one for each or one for all;
        plans for cards that are not in this machine.
    reserve
        Bytes kept free: one size, one for each card, or ``DEVICE=SIZE`` pairs; None: the default
        of `devplan.machine.reserve`.
    main
        Where inputs enter, ``1`` or ``cuda:1``; None: the first card named.
    offload
        Allowed tiers: ``cpu=64GiB``, ``cpu``, ``disk``.
    links
        What joins the cards (`devplan.machine.links`): ``pcie4x16``, ``0-1:nvlink,host``; None: by
        the names of the cards.

    Returns
    -------
    Machine
        Cards in the order in which they were named.

    Raises
    ------
    InputError
        One line with the numbers and the remedy.

    Examples
    --------
    >>> machine = parse_gpus("24GiB,12GiB", reserve="0")
    >>> [(card.device, card.budget_bytes >> 30) for card in machine.cards]
    [('cuda:0', 24), ('cuda:1', 12)]
    """
    cards = with_reserve(read_cards(gpus, memory), reserve)
    main_device = cards[0].device if main is None else find_device(main, cards, "--main")
    machine = Machine(cards=cards, main_device=main_device, tiers=read_tiers(offload))
    return with_links(machine, links)


def read_tiers(offload: Sequence[str]) -> tuple[OffloadTier, ...]:
    """The tiers of ``--offload``, fastest first.

    Parameters
    ----------
    offload
        Items such as ``cpu=64GiB``, ``cpu`` (no bound is known) or ``disk``; an item may hold
        several, separated by commas.

    Raises
    ------
    InputError
        When a tier is unknown, named twice, or has no room.
    """
    parts = [part.strip() for item in offload for part in item.split(",")]
    tiers: dict[str, OffloadTier] = {}
    for part in parts:
        tier = _read_tier(part)
        if tier.device in tiers:
            raise InputError(f"--offload names {tier.device} twice; give it once with its size")
        tiers[tier.device] = tier
    return tuple(tiers[device] for device in OFFLOAD_DEVICES if device in tiers)


def _read_tier(text: str) -> OffloadTier:
    left, equals, right = text.partition("=")
    device = left.strip().lower()
    if device not in OFFLOAD_DEVICES:
        hint = nearest(device, OFFLOAD_DEVICES)
        raise InputError(
            f"--offload {text or repr(text)} is not a tier{hint or ';'} "
            "give cpu, cpu=64GiB, disk or disk=200GiB"
        )
    if not equals:
        return OffloadTier(device=device, capacity_bytes=None)
    capacity = read_size(right, f"--offload {device}")
    if capacity == 0:
        raise InputError(f"--offload {text} gives no room; give a size, or leave it out")
    return OffloadTier(device=device, capacity_bytes=capacity)
