"""Headers of published checkpoints, as they are stored: experts one by one, weights packed.

The names come from transformers' own code that writes a checkpoint (``revert_weight_conversion``),
run on the meta device; what each quantization method stores of a weight is written out here a
second time, from the method's own description and not from devplan's formulas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from devplan.catalog.models import CatalogModel
from devplan.models.source import StoredTensor

_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}


def published_headers(entry: CatalogModel, model: nn.Module) -> dict[str, StoredTensor]:
    """Every tensor of the checkpoint that the class loads, by the name it is stored under."""
    from transformers.core_model_loading import revert_weight_conversion

    config = entry.quantization_config or {}
    pack = PACKED.get(config.get("quant_method", ""), _plain)
    tensors = revert_weight_conversion(model, model.state_dict())
    stored = (each for name, tensor in tensors.items() for each in pack(name, tensor, config))
    return {tensor.name: tensor for tensor in stored}


def header_bytes(tensors: Mapping[str, StoredTensor], num_shards: int) -> int:
    """Bytes of the safetensors headers over them, divided evenly over files."""
    limit = sum(tensor.bytes for tensor in tensors.values()) / num_shards
    total = offset = 0
    for name, tensor in tensors.items():
        if offset and offset + tensor.bytes > limit:
            offset = 0
        end = offset + tensor.bytes
        described = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [offset, end]}
        total += len(json.dumps({name: described}, separators=(",", ":"))) - 1
        offset = end
    return total


def _plain(name: str, tensor: torch.Tensor, _: Mapping[str, Any]) -> Iterator[StoredTensor]:
    yield StoredTensor(name=name, dtype=_NAMES[tensor.dtype], shape=tuple(tensor.shape))


def _fp8(name: str, tensor: torch.Tensor, config: Mapping[str, Any]) -> Iterator[StoredTensor]:
    """fp8 with one float32 for each block of 128 x 128; what is listed stays as it is."""
    skipped = [*config.get("modules_to_not_convert", ()), "lm_head", "embed_tokens", "mlp.gate."]
    if tensor.ndim != 2 or any(part in name for part in skipped):
        yield from _plain(name, tensor, config)
        return
    blocks = tuple(-(-size // 128) for size in tensor.shape)
    yield StoredTensor(name=name, dtype="F8_E4M3", shape=tuple(tensor.shape))
    yield StoredTensor(name=f"{name}_scale_inv", dtype="F32", shape=blocks)


def _int4(name: str, tensor: torch.Tensor, config: Mapping[str, Any]) -> Iterator[StoredTensor]:
    """Eight values of 4 bit in an int32, one scale for 32 values, and the shape."""
    ignored = [text.removeprefix("re:") for text in config["ignore"]] + [".*embed_tokens.*"]
    module = name.removesuffix(".weight")
    is_linear = tensor.ndim == 2 and not re.fullmatch(r".*mlp\.gate", module)
    if not is_linear or any(re.match(pattern, module) for pattern in ignored):
        yield from _plain(name, tensor, config)
        return
    rows, columns = tensor.shape
    yield StoredTensor(name=f"{name}_packed", dtype="I32", shape=(rows, columns // 8))
    yield StoredTensor(name=f"{name}_scale", dtype="BF16", shape=(rows, columns // 32))
    yield StoredTensor(name=f"{name}_shape", dtype="I64", shape=(2,))


def _mxfp4(name: str, tensor: torch.Tensor, config: Mapping[str, Any]) -> Iterator[StoredTensor]:
    """Experts in 4 bit, two values a byte, and one byte for each 32 of them."""
    if not re.search(r"experts\.(gate_up|down)_proj$", name):
        yield from _plain(name, tensor, config)
        return
    experts, columns, rows = tensor.shape
    yield StoredTensor(name=f"{name}_blocks", dtype="U8", shape=(experts, rows, columns // 32, 16))
    yield StoredTensor(name=f"{name}_scales", dtype="U8", shape=(experts, rows, columns // 32))


Pack = Callable[[str, torch.Tensor, Mapping[str, Any]], Iterator[StoredTensor]]
PACKED: Mapping[str, Pack] = {"fp8": _fp8, "compressed-tensors": _int4, "mxfp4": _mxfp4}
