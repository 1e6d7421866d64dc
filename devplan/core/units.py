"""Bytes in and out of text: the only place that knows ``2**30``; and numbers of tokens.

Bytes are ``int`` everywhere inside devplan.  They become text here, when a person reads them,
and text becomes bytes here, when a person typed it.
"""

from __future__ import annotations

import re
from fractions import Fraction

from devplan.core.errors import InputError

KIB = 2**10
MIB = 2**20
GIB = 2**30
TIB = 2**40

_SUFFIX_BYTES = {
    "b": 1,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": TIB,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_MOST_DIGITS = 18
_SIZE = re.compile(r"([0-9]*\.?[0-9]+)\s*([a-z]+)", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``24GiB``, ``512 MiB`` or ``24GB`` (decimal, as accelerate reads it).

    Raises
    ------
    InputError
        When the text is no number with a unit.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _SUFFIX_BYTES.get(match[2].lower()) if match else None
    if factor is None:
        raise InputError(f"{text!r} is not a size; write it with a unit, such as 24GiB or 512MiB")
    if len(match[1]) > _MOST_DIGITS:
        raise InputError(f"a size of {len(match[1])} digits is none; write it such as 24GiB")
    return int(float(match[1]) * factor)


def parse_whole(digits: str) -> int:
    """The number of a text of decimal digits; one that is longer than any number that devplan
    meets (an index, a line, a part of a version) counts as the largest of them."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 10**_MOST_DIGITS


_TOKENS = re.compile(
    r"([0-9]{1,19}|[0-9]{1,3}(?:[,_][0-9]{3}){1,6}|[0-9]{1,9}\.[0-9]{1,9}(?=\s*[km]))\s*([km]?)",
    re.IGNORECASE | re.ASCII,
)
_TOKEN_FACTORS = {"": 1, "k": 2**10, "m": 2**20}


def parse_tokens(text: str) -> int | None:
    """Tokens of a number such as ``32768``, ``32,768``, ``32_768``, ``32k`` or ``1m``; None: none.

    k is 1,024 and m 1,048,576: the contexts of models are powers of two, and a model that is said
    to have 128k tokens has 131,072.
    """
    match = _TOKENS.fullmatch(text.strip())
    if match is None:
        return None
    tokens = Fraction(re.sub("[,_]", "", match[1])) * _TOKEN_FACTORS[match[2].lower()]
    return int(tokens) if tokens.denominator == 1 else None


def is_size(text: str) -> bool:
    """Whether the text reads as a size with a unit."""
    match = _SIZE.fullmatch(text.strip())
    return bool(match) and match[2].lower() in _SUFFIX_BYTES


def format_bytes(num_bytes: int) -> str:
    """Short text of a number of bytes, in binary units: ``15.45 GiB``, ``3.5 MiB``, ``712 B``."""
    sign, size = ("-", -num_bytes) if num_bytes < 0 else ("", num_bytes)
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit:
            return f"{sign}{size / unit:.2f} {name}"
    return f"{sign}{size} B"


def format_gib(num_bytes: int) -> str:
    """A number of bytes as a bare number of GiB with two decimals, for table columns."""
    return f"{num_bytes / GIB:.2f}"
