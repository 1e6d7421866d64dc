"""The one table of dtypes: names of torch, of safetensors and of people, and their bits.

torch is imported only to give its own dtypes.  What ``from_pretrained`` makes of the dtype of a
model is in `devplan.profile.dtypes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devplan.core.errors import InputError, nearest

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Dtype:
    """A dtype of the tensors in a checkpoint or a model."""

    name: str | None
    """In torch; None: no model is made of it."""
    stored: str | None
    """In headers of safetensors files."""
    bits: int
    """Of one element."""
    kind: str
    """``float``: models compute in it, and ``from_pretrained`` casts it to the dtype of the model;
    ``float8`` and ``integer``: loaded as stored; ``scale``: exponents of scales; or ``other``."""
    aliases: tuple[str, ...] = ()
    """What people call it besides."""


def _row(name: str | None, stored: str | None, bits: int, kind: str, *aliases: str) -> Dtype:
    return Dtype(name=name, stored=stored, bits=bits, kind=kind, aliases=aliases)


# Names and bits in safetensors headers:
# https://github.com/safetensors/safetensors/blob/main/safetensors/src/tensor.rs (Dtype::bitsize)
DTYPES = (
    _row("float64", "F64", 64, "float", "fp64", "double"),
    _row("float32", "F32", 32, "float", "fp32", "float"),
    _row("bfloat16", "BF16", 16, "float", "bf16"),
    _row("float16", "F16", 16, "float", "fp16", "half"),
    _row("float8_e4m3fn", "F8_E4M3", 8, "float8", "fp8", "float8", "fp8_e4m3"),
    _row("float8_e4m3fnuz", "F8_E4M3FNUZ", 8, "float8"),
    _row("float8_e5m2", "F8_E5M2", 8, "float8", "fp8_e5m2"),
    _row("float8_e5m2fnuz", "F8_E5M2FNUZ", 8, "float8"),
    _row("float8_e8m0fnu", "F8_E8M0", 8, "scale"),
    _row("int64", "I64", 64, "integer"),
    _row("int32", "I32", 32, "integer"),
    _row("int16", "I16", 16, "integer"),
    _row("int8", "I8", 8, "integer"),
    _row("uint8", "U8", 8, "integer"),
    _row("bool", "BOOL", 8, "integer"),
    _row(None, "F4", 4, "other"),
    _row(None, "F6_E2M3", 6, "other"),
    _row(None, "F6_E3M2", 6, "other"),
    _row(None, "U16", 16, "other"),
    _row(None, "U32", 32, "other"),
    _row(None, "U64", 64, "other"),
    _row(None, "C64", 64, "other"),
)

STORED_DTYPES: Mapping[str, Dtype] = {row.stored: row for row in DTYPES if row.stored}
"""By the names of safetensors headers."""
_NAMED: Mapping[str, Dtype] = {row.name: row for row in DTYPES if row.name}
_ALIASES = {alias: row.name for row in DTYPES if row.name for alias in row.aliases}
_FLOATS = tuple(row.name for row in DTYPES if row.name and row.kind == "float")
COMPUTE_DTYPES = _FLOATS[1:]
"""What models are loaded in: float32, bfloat16, float16."""


def stored_float(stored: str) -> str | None:
    """``bfloat16`` of ``BF16``; None for dtypes that ``from_pretrained`` does not cast."""
    row = STORED_DTYPES.get(stored)
    return row.name if row is not None and row.kind == "float" else None


def dtype_bytes(name: str) -> int:
    """Bytes of an element of a dtype by its full name: 2 of ``bfloat16``."""
    return _NAMED[name].bits // 8


def full_dtype_name(name: str) -> str:
    """``bfloat16`` of ``bf16`` and ``torch.bfloat16``.

    Raises
    ------
    InputError
        When the name is no dtype that a tensor of a model can have.
    """
    typed = name.strip().lower().removeprefix("torch.")
    full = _ALIASES.get(typed, typed)
    if full not in _NAMED:
        close = nearest(typed, [*_NAMED, *_ALIASES])
        raise InputError(f"{name!r} is not a dtype; write one such as bfloat16 or float16{close}")
    return full


def compute_dtype_name(name: str) -> str:
    """The full name of a dtype that a model can compute in.

    Raises
    ------
    InputError
        When the name is no dtype, or an integer or eight-bit one: weights of these are the matter
        of a quantization config.
    """
    full = full_dtype_name(name)
    if full not in _FLOATS:
        raise InputError(
            f"no model computes in {full}; give {', '.join(_FLOATS[1:])} or {_FLOATS[0]} "
            "(a quantized checkpoint says by itself how its weights are stored)"
        )
    return full


def parse_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """The torch dtype of a name such as ``bfloat16``, ``torch.bfloat16``, ``bf16`` or ``half``.

    Raises
    ------
    InputError
        When the name is no dtype that a tensor of a model can have, or the installed torch does
        not have it.
    """
    import torch

    if isinstance(dtype, torch.dtype):
        return dtype
    full = full_dtype_name(dtype)
    found = getattr(torch, full, None)
    if found is None:
        raise InputError(f"torch {torch.__version__} has no {full}; upgrade torch")
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """``bfloat16`` of ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")
