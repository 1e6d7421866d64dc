"""One item of ``--gpus``: an index, a size, a name of the catalogue, or a count of these.

======================  =====================================================
``0``, ``cuda:2``       the local GPU of that index
``24GiB``, ``24GB``     a card of that size, binary or decimal
``rtx-4090``            a card of the GPU catalogue
``2x24GiB``, ``h100x4`` so many of them; a local GPU exists once and has no count
======================  =====================================================

A bare number is always an index.  Sizes need a unit, since ``24`` could mean either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from devplan.catalog import gpus as catalogue
from devplan.core import MIB, TIB, InputError, format_bytes, is_size, parse_bytes

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
        raise InputError(f"{option} is empty; give cards such as 24GiB,12GiB or 2xrtx-4090")
    if not all(parts):
        raise InputError(f"{option} {text} has an empty item; write one card between commas")
    items = tuple(item for part in parts for item in _read_part(part, option))
    if len(items) > MAX_CARDS:
        raise InputError(f"{option} names {len(items)} cards; at most {MAX_CARDS} are planned for")
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
        raise InputError(f"{option}: {text!r} is no size; write one such as 2GiB or 512MiB")
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
        f"{option}: {text} cannot be read; a card is an index (0), a size (24GiB), "
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
    try:
        return f"; for the card write {catalogue.find_gpu(str(number)).id}"
    except InputError:
        return ""


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
