"""The options of the command line that describe a machine, read together."""

from __future__ import annotations

from collections.abc import Sequence

from devplan.machine.cards import find_device, read_cards
from devplan.machine.links import with_links
from devplan.machine.offload import read_tiers
from devplan.machine.reserve import with_reserve
from devplan.types import Machine


def parse_gpus(
    gpus: str,
    *,
    memory: str | None = None,
    reserve: str | None = None,
    main: str | None = None,
    offload: Sequence[str] = (),
    links: str | None = None,
) -> Machine:
    """The machine that the options describe.

    Parameters
    ----------
    gpus
        Comma-separated cards (`devplan.machine.items`): ``0,1``, ``24GiB,12GiB``,
        ``2xa100-80gb,rtx-4090``; ``all`` or ``auto`` for the GPUs of this machine.  Indices
        without `memory` are looked up through torch, which is imported only then.
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
