"""The cards of ``--gpus``: one item after the other, then the number and capacity of each.

======================  =====================================================
``0``, ``cuda:2``       the local GPU of that index
``24GiB``, ``24GB``     a card of that size, binary or decimal
``rtx-4090``            a card of the GPU catalogue
``2x24GiB``, ``h100x4`` so many of them; a local GPU exists once and has no count
======================  =====================================================

A bare number is always an index.  Sizes need a unit, since ``24`` could mean either.

An index keeps its number, since the map must name the GPU that is meant; the other cards take the
lowest free numbers in the order in which they were written.  ``--gpus 1,24GiB`` is therefore
``cuda:1`` and ``cuda:0``.  Indices count the GPUs that torch sees: under
``CUDA_VISIBLE_DEVICES=2,3`` these are 0 and 1.

The capacity of an index comes from the driver of this machine, through torch, or from
``--memory``, which plans for cards that are elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from devplan.catalog import gpus as catalogue
from devplan.core import MIB, TIB, Card, InputError, format_bytes, is_size, parse_bytes, parse_whole

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
        raise InputError(f"--gpus {gpus}: all stands alone; name the GPUs, or write all only")
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
        raise InputError(f"{option} {given} is not among the GPUs; they are {', '.join(known)}")
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
            "or write two GPUs of a size as 2x24GiB"
        )


def _from_memory(indices: Sequence[int], memory: str) -> list[tuple[str, int]]:
    if not indices:
        raise InputError(
            f"--memory {memory} gives the sizes of GPUs named by index, and --gpus names none; "
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
        f"{what}; to plan for GPUs elsewhere give their sizes: "
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
            "give the GPUs to plan for: --gpus 24GiB,12GiB or --gpus 2xrtx-4090"
        )
    return tuple(Item(text=str(index), index=index) for index in range(seen))


def _listing(numbers: Sequence[int]) -> str:
    texts = [str(number) for number in numbers]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


MAX_CARDS = 64
# Bounds that catch a wrong unit and let every real card through: CUDA's own context would fill
# 256 MiB, and the largest GPU announced has 1 TB (NVIDIA Rubin Ultra, GTC 2025 keynote).
MIN_CARD_BYTES = 256 * MIB
MAX_CARD_BYTES = 2 * TIB

# c10::DeviceIndex is an int8_t (c10/core/Device.h).
MAX_INDEX = 127
# Few machines have more than 8 GPUs; larger bare numbers are more likely meant as sizes.
FEW = 8

_INDEX = re.compile(r"(?:cuda:)?([0-9]{1,18})", re.IGNORECASE)
_COUNTED = re.compile(r"([+-]?[0-9]{1,18})\s*[x×*]\s*(.+)", re.IGNORECASE)
_COUNT_BEHIND = re.compile(r"[x×*]\s*([0-9]{1,18})$", re.IGNORECASE)
_HALF_A_UNIT = re.compile(r"([0-9]*\.?[0-9]+)\s*([kmgt])i?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]*\.?[0-9]+")
_BINARY_UNIT = re.compile(r"[kmgt]ib", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One card as it was written."""

    text: str
    index: int | None = None
    """Of a local GPU; None for a card given by size or name."""
    name: str = ""
    """Id in the catalogue, or the size; empty for an index."""
    capacity_bytes: int | None = None
    """None for an index."""


def read_items(text: str, option: str) -> tuple[Item, ...]:
    """The cards of a comma-separated list, counts written out.

    Parameters
    ----------
    text
        What follows the option.
    option
        Its name, for messages: ``--gpus``.

    Raises
    ------
    InputError
        When the list or an item is empty, cannot be read, or names more than 64 cards.
    """
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise InputError(f"{option} is empty; give GPUs such as 24GiB,12GiB or 2xrtx-4090")
    if not all(parts):
        raise InputError(f"{option} {text} has an empty item; write one GPU between commas")
    items = tuple(item for part in parts for item in _read_part(part, option))
    if len(items) > MAX_CARDS:
        raise InputError(f"{option} names {len(items)} GPUs; at most {MAX_CARDS} are planned for")
    return items


def read_size(text: str, option: str) -> int:
    """Bytes of a size of any magnitude; ``0`` needs no unit."""
    text = text.strip()
    if text.startswith("-"):
        raise InputError(f"{option}: {text} is negative; sizes are positive, such as 24GiB")
    if _NUMBER.fullmatch(text) and float(text) == 0:
        return 0
    _refuse_missing_unit(text, option)
    if not is_size(text):
        raise InputError(f"{option}: {text!r} is not a size; write one such as 2GiB or 512MiB")
    return parse_bytes(text)


def _read_part(text: str, option: str) -> Iterator[Item]:
    count, rest = _count_of(text)
    if count is None:
        yield _read_one(text, option)
        return
    if not 1 <= count <= MAX_CARDS:
        raise InputError(f"{option} {text}: a count is 1 to {MAX_CARDS}, not {count}")
    if _count_of(rest)[0] is not None:
        raise InputError(f"{option} {text} has two counts; write one, such as {count}x24GiB")
    item = _read_one(rest, option)
    if item.index is not None:
        size = f"{count}x{rest}GiB" if item.index >= FEW else f"{count}x24GiB"
        raise InputError(
            f"{option} {text}: GPU {item.index} exists once; a count goes with a size or a name, "
            f"such as {size}"
        )
    yield from (item,) * count


def _count_of(text: str) -> tuple[int | None, str]:
    """The count before or behind a card, and the card; None where there is none."""
    before, behind = _COUNTED.fullmatch(text), _COUNT_BEHIND.search(text)
    card = text[: behind.start()].strip() if behind else ""
    # Every card has a digit in its name: the x of rtx4090 counts nothing.
    is_behind = any(letter.isdecimal() for letter in card)
    if before is not None and not (is_behind and int(before[1]) > MAX_CARDS):
        return int(before[1]), before[2]
    return (int(behind[1]), card) if is_behind else (None, text)


def _read_one(text: str, option: str) -> Item:
    index = _INDEX.fullmatch(text)
    if index is not None:
        return Item(text=text, index=_checked_index(int(index[1]), option))
    if text.startswith("-"):
        raise InputError(f"{option}: {text} is negative; indices start at 0, sizes are positive")
    _refuse_missing_unit(text, option)
    if is_size(text):
        return Item(text=text, name=_size_name(text), capacity_bytes=_card_bytes(text, option))
    if text[0].isalnum() and not _BINARY_UNIT.search(text):
        gpu = catalogue.find_gpu(text)
        return Item(text=text, name=gpu.id, capacity_bytes=gpu.capacity_bytes)
    raise InputError(
        f"{option}: {text} cannot be read; a GPU is an index (0), a size (24GiB), "
        "a count (2x24GiB) or a name (rtx-4090)"
    )


def _checked_index(index: int, option: str) -> int:
    if index > MAX_INDEX:
        raise InputError(
            f"{option}: {index} is an index, and these end at {MAX_INDEX}; "
            f"for a size write its unit: 24GiB{_card_of_that_name(index)}"
        )
    return index


def _card_of_that_name(number: int) -> str:
    """``4090`` typed alone: the card is meant."""
    gpu = catalogue.known_gpu(str(number))
    return f"; for the GPU write {gpu.id}" if gpu is not None else ""


def _refuse_missing_unit(text: str, option: str) -> None:
    """A number with no unit or half of one: say how to write it."""
    half = _HALF_A_UNIT.fullmatch(text)
    if half is not None:
        number, unit = half[1], half[2].upper()
        raise InputError(
            f"{option}: {text} has half a unit; write {number}{unit}iB (binary) or "
            f"{number}{unit}B (decimal)"
        )
    if _NUMBER.fullmatch(text):
        raise InputError(f"{option}: {text} has no unit; write {text}GiB")


def _card_bytes(text: str, option: str) -> int:
    size = parse_bytes(text)
    if size < MIN_CARD_BYTES:
        least = format_bytes(MIN_CARD_BYTES)
        raise InputError(f"{option}: {text} is too small for a GPU; give at least {least}")
    if size > MAX_CARD_BYTES:
        most = format_bytes(MAX_CARD_BYTES)
        raise InputError(f"{option}: {text} is larger than any GPU; give at most {most}")
    return size


def _size_name(text: str) -> str:
    """The size as it was typed, in one spelling: ``24 gib`` and ``24.0GiB`` are ``24GiB``."""
    number, unit = re.fullmatch(r"([0-9.]+)\s*([a-z]+)", text, re.IGNORECASE).groups()
    whole, _, fraction = number.partition(".")
    fraction = fraction.rstrip("0")
    unit = unit[:-1].upper().replace("I", "i") + "B"
    return f"{whole.lstrip('0') or '0'}{'.' if fraction else ''}{fraction}{unit}"
