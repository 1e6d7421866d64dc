"""From items to cards: which number each card gets, and how much it holds.

An index keeps its number, since the map must name the GPU that is meant; the other cards take the
lowest free numbers in the order in which they were written.  ``--gpus 1,24GiB`` is therefore
``cuda:1`` and ``cuda:0``.  Indices count the GPUs that torch sees: under
``CUDA_VISIBLE_DEVICES=2,3`` these are 0 and 1.

The capacity of an index comes from the driver of this machine, through torch, or from
``--memory``, which plans for cards that are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from devplan.core import Card, InputError, parse_whole
from devplan.machine.items import FEW, Item, read_items

LOCAL = ("all", "auto")


def read_cards(gpus: str, memory: str | None) -> tuple[Card, ...]:
    """The cards of ``--gpus`` and ``--memory`` with nothing reserved yet.

    Raises
    ------
    InputError
        When an item cannot be read, an index is named twice or is not on this machine, or
        ``--memory`` does not match the indices.
    """
    words = [part.strip().lower() for part in gpus.split(",")]
    if words[0] in LOCAL and len(words) == 1:
        items = _all_local(words[0], memory)
    elif not {*LOCAL}.isdisjoint(words):
        raise InputError(f"--gpus {gpus}: all stands alone; name the cards, or write all only")
    else:
        items = read_items(gpus, "--gpus")
    indices = [item.index for item in items if item.index is not None]
    _refuse_repeats(indices, gpus)
    sizes = _from_driver(indices) if memory is None else _from_memory(indices, memory)
    named = dict(zip(indices, sizes, strict=True))
    free = (number for number in range(len(items) + len(indices)) if number not in named)
    return tuple(_card(item, named, free) for item in items)


def find_device(text: str, cards: Sequence[Card], option: str) -> str:
    """The device that ``1`` or ``cuda:1`` names among the cards."""
    name = text.strip().lower()
    device = f"cuda:{parse_whole(name)}" if name.isdecimal() else name
    known = [card.device for card in cards]
    if device not in known:
        given = text.strip() or repr(text)
        raise InputError(f"{option} {given} is not among the cards; they are {', '.join(known)}")
    return device


def _card(item: Item, named: Mapping[int, tuple[str, int]], free: Iterator[int]) -> Card:
    if item.index is None:
        number, name, capacity = next(free), item.name, item.capacity_bytes
    else:
        number = item.index
        name, capacity = named[number]
    return Card(device=f"cuda:{number}", name=name, capacity_bytes=capacity, reserve_bytes=0)


def _refuse_repeats(indices: Sequence[int], gpus: str) -> None:
    twice = sorted({index for index in indices if indices.count(index) > 1})
    if twice:
        raise InputError(
            f"--gpus {gpus} names GPU {_listing(twice)} twice; name each once, "
            "or write two cards of a size as 2x24GiB"
        )


def _from_memory(indices: Sequence[int], memory: str) -> list[tuple[str, int]]:
    if not indices:
        raise InputError(
            f"--memory {memory} gives the sizes of cards named by index, and --gpus names none; "
            "leave --memory out"
        )
    items = read_items(memory, "--memory")
    for item in items:
        if item.index is not None:
            raise InputError(f"--memory {memory}: {item.text} has no unit; write {item.text}GiB")
    if len(items) == 1:
        items *= len(indices)
    if len(items) != len(indices):
        raise InputError(
            f"--memory gives {len(items)} sizes for {len(indices)} indices "
            f"({', '.join(map(str, indices))}); give one for each, or a single one for all"
        )
    return [(item.name, item.capacity_bytes) for item in items]


def _from_driver(indices: Sequence[int]) -> list[tuple[str, int]]:
    """Name and total memory of local GPUs; imports torch only where there are indices."""
    if not indices:
        return []
    import torch

    seen = torch.cuda.device_count()
    missing = [index for index in indices if index >= seen]
    if missing:
        raise InputError(_not_here(indices, missing, seen))
    properties = [torch.cuda.get_device_properties(index) for index in indices]
    return [(found.name, found.total_memory) for found in properties]


def _not_here(indices: Sequence[int], missing: Sequence[int], seen: int) -> str:
    devices = f"{seen} CUDA device{'' if seen == 1 else 's'}"
    what = f"no GPU {_listing(missing)} on this machine (torch sees {devices})"
    if all(index >= FEW for index in missing):  # 24,12: meant as sizes
        sizes = ",".join(f"{index}GiB" for index in indices)
        return f"{what}: a bare number is an index, sizes need a unit: --gpus {sizes}"
    numbers = ",".join(map(str, indices))
    sizes = ",".join(["24GiB"] * len(indices))
    return (
        f"{what}; to plan for cards elsewhere give their sizes: "
        f"--gpus {numbers} --memory {sizes} or --gpus {sizes}"
    )


def _all_local(word: str, memory: str | None) -> tuple[Item, ...]:
    if memory is not None:
        raise InputError(
            f"--gpus {word} reads the GPUs of this machine, --memory plans for others; "
            "name indices beside --memory: --gpus 0,1"
        )
    import torch

    seen = torch.cuda.device_count()
    if not seen:
        raise InputError(
            f"--gpus {word}: no GPU on this machine (torch sees 0 CUDA devices); "
            "give the cards to plan for: --gpus 24GiB,12GiB or --gpus 2xrtx-4090"
        )
    return tuple(Item(text=str(index), index=index) for index in range(seen))


def _listing(numbers: Sequence[int]) -> str:
    texts = [str(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"
