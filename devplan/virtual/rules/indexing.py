"""Advanced indexing, where reading and writing follow different rules.

* **Reading** (``x[index]``): indices may lie on the CPU or with ``x``, on no other device.
* **Writing** (``x[index] = value``): indices are moved to ``x`` from wherever they are.  The value
  must lie with ``x``, but a value without dimensions is moved, and a CPU value of one element
  becomes a number when the only index is a mask on the device of ``x``.
* **Filling** (``masked_fill``): the mask must lie with the tensor; the value becomes a number.

A basic slice (``x[:, 2:] = y``) is none of these: Python lowers it to ``copy_``, which crosses
devices.  A 0-dim integer tensor as index is read with ``item()`` and never gets here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.rule import Call, Clash, Seen, clash_at, first_accelerator, one_device


@dataclass(frozen=True, kw_only=True)
class ReadIndexed:
    """Indices on the CPU or with the indexed tensor."""

    name: str = "indices on the CPU or with the indexed tensor"
    source: str = (
        "aten/src/ATen/native/TensorAdvancedIndexing.cpp check_indices_on_cpu_or_selfdevice"
    )

    def weigh(self, call: Call) -> Clash | None:
        (indexed,) = call.of("self")
        odd = [x for x in call.of("indices") if not x.is_cpu and x.device != indexed.device]
        if not odd:
            return None
        message = (
            "indices should be either on cpu or on the same device as the indexed tensor "
            f"({indexed.device})"
        )
        return clash_at(message, indexed.device, odd)

    def home(self, call: Call) -> torch.device:
        return call.of("self")[0].device


@dataclass(frozen=True, kw_only=True)
class WriteIndexed:
    """Indices from anywhere, the value with the indexed tensor."""

    name: str = "values with the indexed tensor"
    source: str = (
        "aten/src/ATen/native/TensorAdvancedIndexing.cpp _index_put_impl_; "
        "aten/src/ATen/native/IndexingUtils.h expandTensors; "
        "aten/src/ATen/native/TensorAdvancedIndexingUtils.h canDispatchToMaskedFill"
    )

    def weigh(self, call: Call) -> Clash | None:
        (indexed,) = call.of("self")
        (value,) = call.of("values")
        if value.device == indexed.device or value.tensor.dim() == 0:
            return None
        accumulate = bool(call.values.get("accumulate", False))
        if not accumulate and _becomes_a_fill(indexed, call.of("indices"), value):
            return None
        return clash_at(_value_message(indexed, value, accumulate), indexed.device, [value])

    def home(self, call: Call) -> torch.device:
        return call.of("self")[0].device


def _becomes_a_fill(indexed: Seen, indices: tuple[Seen, ...], value: Seen) -> bool:
    """Whether PyTorch takes the short way: one element, put under one mask."""
    if not value.is_cpu or value.tensor.numel() != 1 or len(indices) != 1:
        return False
    (mask,) = indices
    return mask.tensor.dtype in (torch.bool, torch.uint8) and mask.device == indexed.device


def _value_message(indexed: Seen, value: Seen, accumulate: bool) -> str:
    if accumulate and indexed.device.type == "cuda":  # sorts the indices first, no TensorIterator
        return f"expected device {indexed.device} but got device {value.device} for value tensor"
    common = first_accelerator((indexed, value))
    other = value if common == indexed.device else indexed
    return one_device(common, other.device)


@dataclass(frozen=True, kw_only=True)
class MaskedFill:
    """The mask with the tensor; the value may lie anywhere."""

    name: str = "mask with the filled tensor"
    source: str = "aten/src/ATen/native/cuda/Indexing.cu masked_fill__cuda"

    def weigh(self, call: Call) -> Clash | None:
        (filled,) = call.of("self")
        (mask,) = call.of("mask")
        if call.of("value") and filled.is_cpu:
            message = "masked_fill_: Expected inputs to be on same device"
            return clash_at(message, filled.device, call.seen)
        if mask.device == filled.device:
            return None
        message = (
            "expected self and mask to be on the same device, "
            f"but got mask on {mask.device} and self on {filled.device}"
        )
        return clash_at(message, filled.device, [mask])

    def home(self, call: Call) -> torch.device:
        return call.of("self")[0].device
