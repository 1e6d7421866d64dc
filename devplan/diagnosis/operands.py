"""The tensors of the op that failed, as facts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from devplan.core import OperandFact, joined
from devplan.diagnosis.expressions import tensors_in
from devplan.diagnosis.failure_report import Kind
from devplan.diagnosis.messages import Recognised
from devplan.diagnosis.sites import Site
from devplan.virtual import plain_tensors


@dataclass(frozen=True, kw_only=True, eq=False)
class Operands:
    """What the failing expression worked on."""

    site: Site | None
    """The frame that it is in; the innermost one where no frame has tensors."""
    facts: tuple[OperandFact, ...] = ()


def failing_operands(
    sites: tuple[Site, ...],
    recognised: Recognised,
    names: Mapping[int, str],
    root: nn.Module | None,
) -> Operands:
    """The tensors of the innermost frame that explains the message.

    Of a mismatch that is the innermost whose tensors lie on two devices, the message's own where it
    names them; the first one with tensors where none does.
    """
    first: tuple[Site, dict[str, torch.Tensor]] | None = None
    for site in reversed(sites):
        tensors = {} if site.is_inside_op else tensors_in(site)
        if not tensors:
            continue
        first = first or (site, tensors)
        if recognised.message.kind is not Kind.MISMATCH or _explains(tensors, recognised):
            return Operands(site=site, facts=_facts(tensors, site, names, root))
        if site.is_model_code and id(site.owner) in names:
            break  # further out the line is a call of the module that failed, not the op
    if first is None:
        return Operands(site=sites[-1] if sites else None)
    site, tensors = first
    return Operands(site=site, facts=_facts(tensors, site, names, root))


def _explains(tensors: Mapping[str, torch.Tensor], recognised: Recognised) -> bool:
    devices = {str(tensor.device) for tensor in tensors.values()}
    return len(devices) > 1 and set(recognised.devices) <= devices


def _facts(
    tensors: Mapping[str, torch.Tensor],
    site: Site,
    names: Mapping[int, str],
    root: nn.Module | None,
) -> tuple[OperandFact, ...]:
    known = dict(_named_tensors(root, site, names))
    return tuple(
        OperandFact(
            argument=text,
            device=str(tensor.device),
            shape=tuple(tensor.shape),
            dtype=str(tensor.dtype).removeprefix("torch."),
            num_bytes=tensor.numel() * tensor.element_size(),
            name=known.get(id(tensor)),
        )
        for text, tensor in tensors.items()
    )


def _named_tensors(
    root: nn.Module | None, site: Site, names: Mapping[int, str]
) -> Iterator[tuple[int, str]]:
    """``id`` -> dotted name of parameters and buffers, and of plain attributes of the owner."""
    prefix = names.get(id(site.owner))
    if site.owner is not None and prefix is not None:
        for path, tensor in plain_tensors(site.owner):
            yield id(tensor), joined(prefix, path)
    if root is None:
        return
    for module in root.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    owner = names.get(id(module), "")
                    yield id(tensor), joined(owner, name)
