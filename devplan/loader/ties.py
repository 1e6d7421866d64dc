"""Tensors that the model's class ties, and whether they still are one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from devplan.loader.differences import AuditDifference
from devplan.loader.hooks import device_text
from devplan.loader.target import Target
from devplan.loader.waiting import Waiting, storage_of


def tied_pairs(model: nn.Module) -> Mapping[str, str]:
    """Name -> the name that it is tied to, as the model's class declares it.

    transformers 5 lists them (``all_tied_weights_keys``).  Before, only the pair of input and
    output embedding is known, from the configuration.
    """
    listed = getattr(model, "all_tied_weights_keys", None)
    if listed is not None:
        return dict(listed)
    config = getattr(model, "config", None)
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    if not getattr(text, "tie_word_embeddings", False):
        return {}
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {id(module): name for name, module in model.named_modules()}
    if id(embedding) not in names or id(head) not in names:
        return {}
    return {f"{names[id(head)]}.weight": f"{names[id(embedding)]}.weight"}


def link_ties(tied: Iterable[Sequence[str]], folder: str | Path) -> None:
    """Make the files of one tensor in an offload folder one file, where accelerate wrote several.

    Parameters
    ----------
    tied
        Names of one tensor, each.
    """
    for names in tied:
        files = [Path(folder) / f"{name}.dat" for name in names]
        first, *others = [file for file in files if file.is_file()] or [None]
        for other in others:
            if not other.samefile(first):
                other.unlink()
                _link(other, first)


def _link(name: Path, file: Path) -> None:
    try:
        os.link(file, name)
    except OSError:  # a file system without hard links
        name.symlink_to(file.name)


def broken_ties(model: nn.Module, waiting: Waiting, target: Target) -> Iterator[AuditDifference]:
    """Pairs that are two tensors now."""
    tensors = dict(model.named_parameters(remove_duplicate=False))
    for name, other in tied_pairs(model).items():
        one, two = tensors.get(name), tensors.get(other)
        if one is None or two is None or one is two:
            continue
        if _identity(name, one, waiting) == _identity(other, two, waiting):
            continue
        places = f"one lies on {_place(name, one, waiting)}, one on {_place(other, two, waiting)}"
        yield AuditDifference(
            kind="tie",
            name=name,
            text=f"{name} and {other} are tied and are two tensors now: {places}",
            entry=target.entry_of(name),
        )


def _identity(name: str, tensor: torch.Tensor, waiting: Waiting) -> object:
    """The same for two names of one tensor; tensors without values are told by their names."""
    if tensor.is_meta:
        return waiting.identity(name) or ("meta", name)
    return tensor.device, storage_of(tensor)


def _place(name: str, tensor: torch.Tensor, waiting: Waiting) -> str:
    return (waiting.tier(name) or "meta") if tensor.is_meta else device_text(tensor.device)
