"""The two hooks of a patched embedding: ids in from anywhere, the output out to where it is needed.

Where it is needed is where the code runs that asked for it, and that is where its token ids lay: a
forward makes masks and positions beside the ids, and adds to the output what it makes.  A fixed
device is for code that carries the ids to the embedding itself and leaves everything else behind
(``embed_tokens(input_ids.to(embed_tokens.weight.device))``).

The hooks are PyTorch's own, outside ``forward``.  Whatever accelerate does to ``forward``, before
or after, happens between them: it takes the ids to the embedding's card, brings offloaded weights
there, and leaves the output for the second hook.

`EmbeddingPatch` is part of a pickled model: a process that reads one needs devplan.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from devplan.runtime.hooks import align_hooks

_ORIGIN = "_devplan_origin"
"""On ids that were moved here: the device from which they came."""


class EmbeddingPatch:
    """The hooks of one module.

    Attributes
    ----------
    device : str or None
        Where the output goes; None: where the ids lay.
    """

    def __init__(self, device: str | None) -> None:
        self.device = device

    def take_in(self, module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        """Before ``forward``: bring the ids to the weights, unless accelerate will."""
        home = _home(module)
        if home is None:
            return None
        return tree_map(functools.partial(_brought, device=home), (args, kwargs))

    def deliver(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
        """After ``forward``: the output where it is needed."""
        device = self.device or _origin(args, kwargs)
        if device is None:
            return output
        return tree_map(lambda leaf: leaf.to(device) if _is_tensor(leaf) else leaf, output)

    def __str__(self) -> str:
        return f"output on {self.device}" if self.device else "output where the ids are"


def patch_of(module: nn.Module) -> EmbeddingPatch | None:
    """The patch of a module, if it has one."""
    owners = (getattr(hook, "__self__", None) for hook in module._forward_hooks.values())
    return next((owner for owner in owners if isinstance(owner, EmbeddingPatch)), None)


def patch_module(module: nn.Module, device: str | None) -> None:
    """Put the hooks on a module, or change the device of those that it has."""
    patch = patch_of(module)
    if patch is not None:
        patch.device = device
        return
    patch = EmbeddingPatch(device)
    module.register_forward_pre_hook(patch.take_in, with_kwargs=True)
    module.register_forward_hook(patch.deliver, with_kwargs=True)
    if "extra_repr" not in vars(module):
        module.extra_repr = functools.partial(_shown, module, patch)


def unpatch_module(module: nn.Module) -> bool:
    """Take the hooks off again; whether there were any."""
    patch = patch_of(module)
    if patch is None:
        return False
    _drop(patch, module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs)
    _drop(patch, module._forward_hooks, module._forward_hooks_with_kwargs)
    if getattr(vars(module).get("extra_repr"), "func", None) is _shown:
        del module.extra_repr
    return True


def _drop(patch: EmbeddingPatch, hooks: dict, with_kwargs: dict) -> None:
    # By owner, not by handle: a copied or unpickled module has its hooks under the same keys, but
    # nobody has kept its handles.
    keys = [key for key, hook in hooks.items() if getattr(hook, "__self__", None) is patch]
    for key in keys:
        del hooks[key]
        with_kwargs.pop(key, None)


def _shown(module: nn.Module, patch: EmbeddingPatch) -> str:
    """What ``repr`` says between the brackets."""
    own = type(module).extra_repr(module)
    return ", ".join(filter(None, (own, f"{patch} (devplan)")))


# -------------------------------------------------------------------------------------- devices


def _home(module: nn.Module) -> torch.device | None:
    """Where the ids have to go; None: nowhere, or accelerate takes them there."""
    if any(hook.execution_device is not None for hook in align_hooks(module)):
        return None
    weight = next(module.parameters(), None)
    # [meta] weights that somebody else will bring: nothing could be read there.
    return None if weight is None or weight.device.type == "meta" else weight.device


def _brought(leaf: Any, device: torch.device) -> Any:
    if not _is_tensor(leaf) or leaf.device == device:
        return leaf
    moved = leaf.to(device)
    # On the ids themselves: two threads, or two calls of which one fails, cannot mix them up.
    setattr(moved, _ORIGIN, leaf.device)
    return moved


def _origin(args: tuple, kwargs: dict) -> torch.device | None:
    """Where the first tensor among the arguments lay when the module was called."""
    first = next(filter(_is_tensor, tree_leaves((args, kwargs))), None)
    return None if first is None else getattr(first, _ORIGIN, first.device)


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor)
