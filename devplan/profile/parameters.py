"""Bytes in which a model's parameters will lie in memory: the one question, all the answers.

Most parameters take elements times the size of the model's dtype, and the profile's walk over the
module tree counts them so.  `parameter_bytes` names the others, with their bytes:

1. kept in another dtype by the class (``dtypes``);
2. converted by the quantization config: from the checkpoint's headers where it is a quantized
   checkpoint and something is stored of every parameter, else by the method's formula;
3. held otherwise than stored by the installed transformers (``QuantizedSizes.in_memory``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, format_bytes
from devplan.profile.dtypes import StoredTensor, dtype_exceptions
from devplan.profile.quantization import method_of, quantized_bytes
from devplan.profile.quantization.sizes import QuantizedSizes
from devplan.profile.stored import StoredSizes, stored_bytes
from devplan.profile.tree import NamedModules, named_modules

# Formula and headers that differ by more than this deserve a word.
_TOLERANCE = 0.001


@dataclass(frozen=True, kw_only=True)
class ParameterSizes:
    """Bytes of the parameters that do not take elements times dtype."""

    exceptions: Mapping[str, int]
    """Parameter -> bytes in memory once the model runs."""
    packed: Mapping[str, int] = field(default_factory=dict)
    """Parameter -> bytes in the form that the quantization method stores, for all that it
    converts; `exceptions` says otherwise where that form does not stay."""
    dtype: torch.dtype
    quantization: str | None = None
    """The method, as ``QuantizedSizes.method``."""
    notes: tuple[str, ...] = ()

    @property
    def stays_packed(self) -> bool:
        """Whether all that is packed in the checkpoint lies so in memory."""
        return all(self.exceptions.get(name) == size for name, size in self.packed.items())


def parameter_bytes(
    model: nn.Module,
    *,
    dtype: torch.dtype,
    quantization_config: Mapping[str, Any] | None = None,
    stored: Mapping[str, StoredTensor] | None = None,
    modules: NamedModules | None = None,
) -> ParameterSizes:
    """Bytes of the parameters of a skeleton that do not take elements times dtype.

    Parameters
    ----------
    model
        Skeleton on the meta device, built in `dtype` and not quantized.
    dtype
        Dtype of the model.
    quantization_config
        Of the checkpoint, or as it will be given to ``from_pretrained``.
    stored
        Headers of the checkpoint, name -> tensor; consulted only for a quantized one.
    modules
        ``devplan.profile.tree.named_modules(model)`` where the caller has it already.

    Raises
    ------
    InputError
        When the quantization method is unknown and there are no headers to take its sizes from.
    """
    exceptions = {
        name: model.get_parameter(name).numel() * own.itemsize
        for name, own in dtype_exceptions(model, dtype, modules=modules).items()
    }
    if quantization_config is None:
        return ParameterSizes(exceptions=exceptions, dtype=dtype)
    modules = modules or named_modules(model)
    sizes = _quantized(model, quantization_config, dtype, stored, modules)
    return ParameterSizes(
        exceptions={**exceptions, **sizes.resident},
        packed=sizes.bytes,
        dtype=dtype,
        quantization=sizes.method,
        notes=sizes.notes,
    )


def _quantized(
    model: nn.Module,
    config: Mapping[str, Any],
    dtype: torch.dtype,
    stored: Mapping[str, StoredTensor] | None,
    modules: NamedModules,
) -> QuantizedSizes:
    """Sizes by formula, by the headers, or by both where each knows what the other does not."""
    found = stored_bytes(model, stored) if stored else None
    if found is None or not found.packed:
        return quantized_bytes(model, config, dtype=dtype, modules=modules)
    try:
        formula = quantized_bytes(model, config, dtype=dtype, modules=modules)
    except InputError:
        if found.missing:
            raise
        return _by_headers(config, found)
    # What a config unpacks while loading is not packed, whatever the checkpoint stores.
    if not formula.bytes or (config.get("dequantize") and not formula.in_memory):
        return formula
    return _reconciled(formula, found)


def _by_headers(config: Mapping[str, Any], found: StoredSizes) -> QuantizedSizes:
    """Sizes of a method that no formula is known for."""
    method = method_of(config)
    sizes = {name: found.bytes[name] for name in sorted(found.packed)}
    return QuantizedSizes(
        method=method,
        bytes=sizes,
        parts={"as stored": sum(sizes.values())},
        notes=(
            f"sizes of {method} are those of the checkpoint's headers; what transformers makes of "
            "them in memory is not known to devplan",
        ),
    )


def _reconciled(formula: QuantizedSizes, found: StoredSizes) -> QuantizedSizes:
    """The stored sizes of the packed parameters, where nothing is missing; else the formula's."""
    if found.missing:
        note = (
            f"nothing is stored of {len(found.missing)} of the parameters, such as "
            f"{found.missing[0]}, so the sizes are those of the formula of {formula.method}"
        )
        return _with(formula, formula.bytes, formula.parts, note)
    packed = {name: found.bytes[name] for name in found.packed}
    by_formula, by_headers = sum(formula.bytes.values()), sum(packed.values())
    if abs(by_formula - by_headers) <= _TOLERANCE * by_headers:
        return _with(formula, packed, formula.parts)
    note = (
        f"the checkpoint stores {format_bytes(by_headers)} of packed weights where the formula of "
        f"{formula.method} says {format_bytes(by_formula)}; the checkpoint is believed"
    )
    return _with(formula, packed, {"as stored": by_headers}, note)


def _with(
    sizes: QuantizedSizes, new_bytes: Mapping[str, int], parts: Mapping[str, int], *notes: str
) -> QuantizedSizes:
    return QuantizedSizes(
        method=sizes.method,
        bytes=new_bytes,
        parts=parts,
        in_memory=sizes.in_memory,
        unquantized=sizes.unquantized,
        notes=(*sizes.notes, *notes),
    )
