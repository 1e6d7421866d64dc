"""`ModelSource`: a model before it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from devplan.core import STORED_DTYPES

if TYPE_CHECKING:
    import torch
    from torch import nn


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
        return prod(self.shape) * STORED_DTYPES[self.dtype].bits // 8


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
    quantize: str | None = None
    """How transformers quantizes it while loading (`devplan.core.quantize`), which `config` then
    says as if the checkpoint were quantized; None: it is loaded as it is stored."""
    notes: tuple[str, ...] = ()
    """What the user should know: weights that were not read, and why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Skeleton:
    """A model on the meta device and what its class says about splitting it."""

    model: nn.Module
    config: Any
    """The library's configuration object; None for a user's own module."""
    class_name: str
    dtype: torch.dtype
    """Of the floating-point parameters."""
    no_split: frozenset[str]
    """Classes that must stay whole, declared anywhere in the model."""
    max_tokens: int | None
    """Longest context that the configuration promises; None when it says nothing."""
    notes: tuple[str, ...] = ()
    """What had to be decided while building, for people."""
    components: Mapping[str, Component] = field(default_factory=dict)
    """Of a pipeline: its models by name; empty for one model."""
    own_inputs: str | None = None
    """``file.py:function`` of the user's that makes its inputs; None: devplan makes them."""
    executable: bool = True
    """Whether the model's own code is there to be run."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Component:
    """A model of a pipeline, built on its own."""

    skeleton: Skeleton
    source: ModelSource
