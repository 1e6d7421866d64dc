"""Bytes of parameters and buffers by block, tied tensors once.

One walk over the modules of each block.  Names are only built where some parameter's bytes differ
from elements times itemsize (``sizes``), so that a model of 170,000 modules takes a tenth of a
second.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from devplan.models import BlockSite
from devplan.profile.model import BlockBytes


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Tensors of all blocks."""

    blocks: dict[str, BlockBytes]
    tied: tuple[tuple[str, ...], ...]
    """Groups of blocks that share a tensor."""
    num_parameters: int


def measure_blocks(
    sites: tuple[BlockSite, ...],
    sizes: Mapping[str, int],
    loading: Mapping[str, int] | None = None,
) -> Measured:
    """Bytes of every block, each tensor once: in the first block that holds it.

    Parameters
    ----------
    sites
        All blocks of the model.
    sizes
        Parameter name -> bytes in memory, for those that are not as the skeleton has them.
    loading
        Parameter name -> bytes beside it while it is loaded, for those that need any.
    """
    walk = _Walk(sizes=sizes, loading=loading or {})
    blocks = {site.name: walk.block(site) for site in sites}
    return Measured(blocks=blocks, tied=_groups(walk.shared), num_parameters=walk.num_parameters)


class _Walk:
    """One walk over the modules of all blocks; remembers which tensors it has met."""

    def __init__(self, *, sizes: Mapping[str, int], loading: Mapping[str, int]) -> None:
        self.shared: list[tuple[str, str]] = []
        self.num_parameters = 0
        self._sizes, self._loading = sizes, loading
        self._is_named = bool(sizes or loading)
        self._owner_of: dict[int, str] = {}

    def block(self, site: BlockSite) -> BlockBytes:
        self._block = site.name
        self._weights = self._buffers = self._most_loading = 0
        if site.tensor is None:
            onload = self._module(site.name if self._is_named else "", site.module)
        else:
            onload = self._tensor(site.name, site.tensor, site.class_name == "Parameter")
        return BlockBytes(
            weight_bytes=self._weights,
            buffer_bytes=self._buffers,
            onload_bytes=onload,
            loading_bytes=self._most_loading,
        )

    def _module(self, prefix: str, module: nn.Module) -> int:
        """Counts a module; returns what is there at a time while it runs with weights elsewhere.

        accelerate brings the tensors that a module holds itself before its ``forward`` and takes
        them away behind it (``AlignDevicesHook``), so those of the modules around are there too.
        """
        own = 0
        for tensors, is_parameter in ((module._parameters, True), (module._buffers, False)):
            for name, tensor in tensors.items():
                if tensor is not None:
                    own += self._tensor(prefix and f"{prefix}.{name}", tensor, is_parameter)
        inner = 0
        for name, child in module._modules.items():
            if child is not None:
                inner = max(inner, self._module(prefix and f"{prefix}.{name}", child))
        return own + inner

    def _tensor(self, name: str, tensor: torch.Tensor, is_parameter: bool) -> int:
        """Bytes of a tensor, counted where it was not met before."""
        num_bytes = self._sizes.get(name) if name else None
        if num_bytes is None:
            num_bytes = tensor.numel() * tensor.element_size()
        key = id(tensor)
        if key in self._owner_of:
            if self._owner_of[key] != self._block:
                self.shared.append((self._owner_of[key], self._block))
            return num_bytes
        self._owner_of[key] = self._block
        self._most_loading = max(self._most_loading, self._loading.get(name, 0))
        if is_parameter:
            self._weights += num_bytes
            self.num_parameters += tensor.numel()
        else:
            self._buffers += num_bytes
        return num_bytes


def _groups(shared: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Blocks joined by any chain of shared tensors, in order of appearance."""
    group_of: dict[str, list[str]] = {}
    for names in shared:
        merged: list[str] = []
        for name in dict.fromkeys(names):
            merged.extend(item for item in group_of.get(name, [name]) if item not in merged)
        for name in merged:
            group_of[name] = merged
    unique = {id(group): tuple(group) for group in group_of.values() if len(group) > 1}
    return tuple(unique.values())
