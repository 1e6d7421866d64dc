"""Bytes of a checkpoint as it is stored, from the class and its quantization config.

What ``save_pretrained`` writes: every parameter (tied ones once) and every persistent buffer, in
the model's dtype or in the form of the quantization method.  How many tensors that makes does not
matter: experts that a checkpoint holds one by one have the bytes of the fused parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from devplan.profile.quantization import quantized_bytes


def checkpoint_bytes(
    model: nn.Module,
    *,
    dtype: torch.dtype,
    quantization_config: Mapping[str, Any] | None = None,
) -> int:
    """Bytes of the tensors that a checkpoint of the class holds.

    Parameters
    ----------
    model
        Skeleton on the meta device, built in `dtype` and not quantized.
    quantization_config
        Of the checkpoint.

    Raises
    ------
    InputError
        When the quantization method is unknown.
    """
    packed: Mapping[str, int] = {}
    if quantization_config is not None:
        packed = quantized_bytes(model, quantization_config, dtype=dtype).bytes
    weights = sum(packed.get(name, p.nbytes) for name, p in model.named_parameters())
    return weights + sum(buffer.nbytes for buffer in _persistent_buffers(model))


def _persistent_buffers(model: nn.Module) -> list[torch.Tensor]:
    """Buffers that ``state_dict`` has; shared ones once."""
    found = {
        id(buffer): buffer
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and name not in module._non_persistent_buffers_set
    }
    return list(found.values())
