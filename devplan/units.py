"""Bytes in and out of text: the only place that knows ``2**30``.

Bytes are ``int`` everywhere inside devplan.  They become text here, when a person reads them,
and text becomes bytes here, when a person typed it.
"""

from __future__ import annotations

import re

from devplan.errors import InputError

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
        raise InputError(f"{text!r} is no size; write it with a unit, such as 24GiB or 512MiB")
    return int(float(match[1]) * factor)


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
