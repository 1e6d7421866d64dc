"""`ModelSource`: a model before it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

# Bits of one element, by the names that safetensors gives to dtypes.
# https://github.com/safetensors/safetensors/blob/main/safetensors/src/tensor.rs (Dtype::bitsize)
DTYPE_BITS: Mapping[str, int] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}


@dataclass(frozen=True, kw_only=True)
class StoredTensor:
    """One tensor of a checkpoint, as the header of its safetensors file describes it."""

    name: str
    dtype: str
    """In safetensors' own spelling: ``BF16``, ``F8_E4M3``, ``I32``, ``U8``."""
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Bytes in the file; safetensors packs dtypes below one byte without gaps."""
        return prod(self.shape) * DTYPE_BITS[self.dtype] // 8


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a model comes from and what is known of it without building it."""

    id: str
    """As the user names it: hub id, catalogue name, folder as typed, ``module:factory``."""
    origin: str
    """``catalogue``, ``folder``, ``hub`` or ``factory``."""
    location: str | None
    """What ``from_pretrained`` is given: a path or a hub id; None for a factory."""
    library: str
    """``transformers``, ``diffusers``, or ``tensors`` (the catalogue knows its tensors only)."""
    class_name: str | None = None
    """``architectures[0]``, ``_class_name`` of diffusers; None where the config names none."""
    config: Mapping[str, Any] | None = None
    """Content of config.json, or the catalogue's; None for a factory."""
    dtype: str | None = None
    """Dtype that the config or the catalogue states: ``bfloat16``."""
    subfolder: str | None = None
    """Folder of the component inside a hub repository."""
    revision: str | None = None
    """Commit hash on the hub."""
    config_hash: str | None = None
    """See `devplan.models.config.config_hash`."""
    stored: Mapping[str, StoredTensor] | None = None
    """Every tensor of the safetensors files; None where there are none to read."""
    stored_metadata: Mapping[str, Any] = field(default_factory=dict)
    """``metadata`` of the index of a sharded checkpoint: ``total_size`` in bytes."""
    trust_remote_code: bool = False
    """Whether the user allowed the code that comes with the model to run."""
    code_folder: str | None = None
    """Local folder with the model's own code; None where there is none or it is not trusted."""
    components: Mapping[str, ModelSource] = field(default_factory=dict)
    """Of a diffusers pipeline: what it is made of, in the order of its index; empty for a model."""
    factory: Callable[[], Any] | None = None
    """Builds the module on the meta device, or raises InputError or UserCodeError."""
    catalogue_model: Any | None = None
    """The entry of the catalogue (``devplan.catalog.models.CatalogModel``)."""
    notes: tuple[str, ...] = ()
    """What the user should know: weights that were not read, and why."""
