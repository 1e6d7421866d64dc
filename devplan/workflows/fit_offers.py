"""The machines to choose from, as they were named."""

from __future__ import annotations

from collections.abc import Sequence

from devplan.core import BlockGraph, InputError, Machine, Workload
from devplan.machine import MAX_CARDS, machine_label, parse_gpus, read_items
from devplan.planning import fewest_cards
from devplan.workflows.fit_rows import Offer


def named_offers(machines: Sequence[Machine]) -> tuple[Offer, ...]:
    """Each machine once."""
    return tuple(
        Offer(machine=machine, label=machine_label(machine)) for machine in dict.fromkeys(machines)
    )


def checked_kind(kind: str) -> str:
    """A kind of card, as ``--card`` takes it.

    Raises
    ------
    InputError
        When it is a count, several cards, or a card of this machine.
    """
    items = read_items(kind, "--card")
    if len(items) != 1 or items[0].text != kind.strip():
        raise InputError(
            f"--card {kind}: name one kind of card, such as 24GiB or a100-80gb; how many are "
            "needed is the answer (for a machine of your choice: --gpus)"
        )
    if items[0].index is not None:
        raise InputError(
            f"--card {kind} is the index of one GPU of this machine; name a kind, such as 24GiB "
            "or rtx-4090"
        )
    return kind.strip()


def of_kind(kind: str, count: int, reserve: str | None) -> Offer:
    """So many cards of a kind."""
    machine = parse_gpus(f"{count}x{kind}", reserve=reserve)
    return Offer(machine=machine, label=machine_label(machine), kind=kind)


def fewest_of_kind(kind: str, graph: BlockGraph, workload: Workload, reserve: str | None) -> Offer:
    """The fewest cards that suffice; the most that are planned for where none do."""
    count = fewest_cards(
        graph, workload, lambda count: of_kind(kind, count, reserve).machine, most=MAX_CARDS
    )
    return of_kind(kind, count or MAX_CARDS, reserve)
