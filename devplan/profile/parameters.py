"""Bytes in which a model's parameters will lie in memory: the one question, all the answers.

Most parameters take elements times the size of the model's dtype, and the profile's walk over the
module tree counts them so.  `parameter_bytes` names the others, with their bytes:

1. kept in another dtype by the class (``dtypes``);
2. converted by the quantization config: from the checkpoint's headers where it is a quantized
   checkpoint and something is stored of every parameter, else by the method's formula;
3. held otherwise than stored by the installed transformers (``QuantizedSizes.in_memory``).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, format_bytes
from devplan.models import Component, Skeleton, StoredTensor
from devplan.profile.checkpoint import StoredSizes, conversions, stored_bytes
from devplan.profile.dtypes import dtype_exceptions
from devplan.profile.quantization import config_on_cards, method_of, quantized_bytes, unpacked_note
from devplan.profile.quantization.sizes import QuantizedSizes
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


# ------------------------------------------------------------------------------------------ loading
#
# Weights are read one tensor at a time and need no room beside themselves, with two exceptions, in
# which tensors of the checkpoint are on the device together with the parameter that is made of
# them:
#
# * parameters that transformers makes of several stored tensors (experts that are stored one by one
#   and run as one tensor): the stored ones are freed as the operations go, so at most a second copy
#   is there.  ``transformers.core_model_loading``, ``MergeModulelist`` and ``Concatenate`` of 5.x;
# * quantized weights that are unpacked: the packed form is there meanwhile.
#
# Reading ahead (four threads in transformers 5) does not add to it: a tensor that was read early
# belongs to the next parameter, which would be there anyway by the end.


def loading_bytes(
    model: nn.Module,
    *,
    sizes: Mapping[str, int],
    packed: Mapping[str, int],
    stored: Container[str] = (),
) -> dict[str, int]:
    """Parameter -> bytes beside it while it is loaded, for those that need any.

    Parameters
    ----------
    model
        Skeleton on the meta device.
    sizes
        Parameter -> bytes in memory, for those that are not as the skeleton has them.
    packed
        Parameter -> bytes in the form that its quantization method stores.
    stored
        Names in the checkpoint, where they are known: what has its own name there is not made of
        others.
    """
    found: dict[str, int] = {}
    for name, num_bytes in packed.items():
        if sizes.get(name, num_bytes) > num_bytes:
            found[name] = num_bytes
    if targets := _targets(conversions(model)[1]):
        for name, parameter in model.named_parameters():
            if name not in stored and targets.search(name):
                own = sizes.get(name, parameter.numel() * parameter.element_size())
                found[name] = found.get(name, 0) + own
    return found


def quantizing_bytes(
    model: nn.Module,
    dtype: torch.dtype,
    sizes: ParameterSizes,
    config: Mapping[str, Any],
) -> dict[str, int]:
    """Parameter -> bytes of the wider form beside it while it is quantized on its device.

    transformers 5 reads no tensor ahead when it quantizes (``convert_and_load_state_dict_in_model``
    of 5.23 makes no threads then), so one weight at a time is there in the model's dtype.  For 8
    bits bitsandbytes makes a float16 copy of it first (``Int8Params._quantize``, 0.50.2); the
    tensor in the model's dtype is still held by ``Bnb8bitQuantize``.
    """
    beside = dtype.itemsize
    if sizes.quantization == "bitsandbytes_8bit" and not config.get("llm_int8_has_fp16_weight"):
        beside += torch.float16.itemsize
    return {name: model.get_parameter(name).numel() * beside for name in sizes.packed}


_REFERENCE = re.compile(r"\\\\\d|\\\d")
"""A group of the source pattern, in a target pattern."""


def _targets(converters: Iterable[Any]) -> re.Pattern[str] | None:
    """What matches the names of all parameters that are made by conversions on their device."""
    patterns = [
        ".+".join(map(re.escape, _REFERENCE.split(target.strip("^$"))))
        for converter in converters
        if not getattr(converter, "force_cpu", False)
        for target in converter.target_patterns
    ]
    return re.compile(f"(?:{'|'.join(patterns)})$") if patterns else None


# ---------------------------------------------------------------------------------------- pipelines
#
# The models of a pipeline have dtypes and quantizations of their own: each is sized by itself,
# under the names that its parameters have in the pipeline.


@dataclass(kw_only=True)
class ComponentSizes:
    """Parameters of a whole pipeline that are not as its skeleton has them."""

    exceptions: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes in memory."""
    packed: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes as stored, of all that is quantized."""
    loading: dict[str, int] = field(default_factory=dict)
    """Parameter -> bytes beside it while it is loaded."""
    is_unpacked: bool = False
    """Whether something of it would not lie in memory as it is stored."""
    methods: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def quantization(self) -> str | None:
        """``transformer bitsandbytes``; None where nothing is quantized."""
        return ", ".join(self.methods) or None


def component_sizes(
    skeleton: Skeleton, *, least_capability: tuple[int, int] | None = None, packed: bool = False
) -> ComponentSizes:
    """The sizes of all components of a pipeline.

    Parameters
    ----------
    skeleton
        Of the pipeline.
    least_capability
        Smallest compute capability among the cards, where it is known.
    packed
        Count quantized weights as they are stored, also where they are unpacked.

    Raises
    ------
    InputError
        When a quantization method is unknown: with the component.
    """
    found = ComponentSizes()
    for name, component in skeleton.components.items():
        try:
            _add(found, name, component, least_capability, packed)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return found


def _add(
    found: ComponentSizes,
    name: str,
    component: Component,
    least_capability: tuple[int, int] | None,
    packed: bool,
) -> None:
    skeleton, source = component.skeleton, component.source
    stored_as = (source.config or {}).get("quantization_config")
    on_cards = config_on_cards(stored_as, least_capability)
    runs_as = stored_as if packed else on_cards
    sizes = parameter_bytes(
        skeleton.model, dtype=skeleton.dtype, quantization_config=runs_as, stored=source.stored
    )
    found.is_unpacked |= on_cards is not stored_as or not sizes.stays_packed
    exceptions = {**sizes.exceptions, **sizes.packed} if packed else sizes.exceptions
    loading = loading_bytes(
        skeleton.model, sizes=exceptions, packed=sizes.packed, stored=source.stored or ()
    )
    parts = ((found.exceptions, exceptions), (found.packed, sizes.packed), (found.loading, loading))
    for whole, part in parts:
        whole.update({f"{name}.{parameter}": size for parameter, size in part.items()})
    found.methods += [f"{name} {sizes.quantization}"] if sizes.quantization else []
    found.notes += [f"{name}: {note}" for note in sizes.notes]
    if runs_as is not stored_as:
        found.notes.append(f"{name}: {unpacked_note(stored_as, least_capability)}")
