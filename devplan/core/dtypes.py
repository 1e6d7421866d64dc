"""Names of dtypes, as people and checkpoints write them; torch is imported only to give its own.

What ``from_pretrained`` makes of the dtype of a model is `devplan.profile.dtypes`' matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from devplan.core.errors import InputError, nearest

if TYPE_CHECKING:
    import torch

_SHORT_NAMES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "float": "float32",
    "fp64": "float64",
    "double": "float64",
    "fp8": "float8_e4m3fn",
    "float8": "float8_e4m3fn",
    "fp8_e4m3": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}
_FLOATS = ("float64", "float32", "bfloat16", "float16")
_EIGHT_BIT_FLOATS = (
    "float8_e4m3fn",
    "float8_e4m3fnuz",
    "float8_e5m2",
    "float8_e5m2fnuz",
    "float8_e8m0fnu",
)
_INTEGERS = ("int64", "int32", "int16", "int8", "uint8", "bool")
_NAMES = (*_FLOATS, *_EIGHT_BIT_FLOATS, *_INTEGERS)


def full_dtype_name(name: str) -> str:
    """``bfloat16`` of ``bf16`` and ``torch.bfloat16``.

    Raises
    ------
    InputError
        When the name is no dtype that a tensor of a model can have.
    """
    typed = name.strip().lower().removeprefix("torch.")
    full = _SHORT_NAMES.get(typed, typed)
    if full not in _NAMES:
        close = nearest(typed, [*_NAMES, *_SHORT_NAMES])
        raise InputError(f"{name!r} is no dtype; write one such as bfloat16 or float16{close}")
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
