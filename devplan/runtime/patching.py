"""Patch the embeddings of a model, keep them patched, and take the patch off.

A patch belongs to the *place* of an embedding.  Whoever puts another module there
(``resize_token_embeddings`` did until transformers 4.43, ``set_input_embeddings`` does) finds it
patched at the model's next forward: a hook of the whole model looks after that.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves, tree_map

from devplan.core import InputError, described, from_hf_device, nearest, texts
from devplan.virtual import hook_device

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PatchedEmbedding:
    """An embedding whose output is delivered where it is needed."""

    name: str
    """Dotted name of the module."""
    device: str | None
    """Where its output goes; None: where its token ids lay."""


def patch_embeddings(
    model: nn.Module, names: str | Iterable[str] | None = None, device: Any = None
) -> tuple[PatchedEmbedding, ...]:
    """Deliver what embeddings give on the device where it is needed, and take ids from anywhere.

    For maps that put an embedding away from the code that calls it, where moving the entry would
    be the better fix.  Names in the state dict, weights, ties, ``resize_token_embeddings``,
    ``save_pretrained``, pickling and gradients stay as they are.  To call it again changes nothing.

    Parameters
    ----------
    model
        A loaded model, dispatched by accelerate or not, before or after.
    names
        Dotted names of modules; None: the input embedding (``get_input_embeddings()``) and every
        embedding that shares its weight.
    device
        Where the output goes; None: where the ids lay when the module was called, which is where
        the code that calls it makes masks and positions.

    Returns
    -------
    tuple of PatchedEmbedding
        Those named, patched now or before.

    Raises
    ------
    InputError
        When there is no such module, no input embedding, or no such device.

    Examples
    --------
    >>> devplan.patch_embeddings(model)
    (PatchedEmbedding(name='model.embed_tokens', device=None),)
    >>> model.model.embed_tokens
    Embedding(152064, 3584, output where the ids are (devplan))
    """
    _refuse_no_module(model, "patch_embeddings")
    target = None if device is None else from_hf_device(device)
    modules = input_embeddings(model) if names is None else _named(model, names)
    for name, module in modules.items():
        patch_module(module, target)
        log.info("%s: output delivered %s", name, f"on {target}" if target else "where its ids are")
    _follow(model, dict.fromkeys(modules, target))
    return tuple(PatchedEmbedding(name=name, device=target) for name in modules)


def unpatch_embeddings(
    model: nn.Module, names: str | Iterable[str] | None = None
) -> tuple[str, ...]:
    """Take the patch off, and leave the modules as they were before it.

    Parameters
    ----------
    model
        The model that was given to `patch_embeddings`, a copy of it, or one that was unpickled.
    names
        Dotted names of modules; None: all that are patched.

    Returns
    -------
    tuple of str
        Names of the modules that were patched.

    Raises
    ------
    InputError
        When there is no such module.
    """
    _refuse_no_module(model, "unpatch_embeddings")
    modules = dict(model.named_modules()) if names is None else _named(model, names)
    unpatched = tuple(name for name, module in modules.items() if unpatch_module(module))
    _unfollow(model, modules)
    return unpatched


def patched_embeddings(model: nn.Module) -> tuple[PatchedEmbedding, ...]:
    """The modules of a model that are patched."""
    patches = ((name, patch_of(module)) for name, module in model.named_modules())
    return tuple(
        PatchedEmbedding(name=name, device=patch.device)
        for name, patch in patches
        if patch is not None
    )


# ------------------------------------------------------------------------------ which are meant


def _refuse_no_module(model: Any, function: str) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{described(model)} is not a torch module; give the model that has the embedding: "
            f"devplan.{function}(pipeline.text_encoder)"
        )


def _named(model: nn.Module, names: str | Iterable[str]) -> dict[str, nn.Module]:
    known = dict(model.named_modules(remove_duplicate=False))
    wanted = texts("names of modules as text")("names", names)
    for name in wanted:
        if name not in known:
            raise InputError(
                f"{type(model).__name__} has no module {name!r}{nearest(name, filter(None, known))}"
            )
    return {name: known[name] for name in wanted}


def input_embeddings(model: nn.Module) -> dict[str, nn.Module]:
    """The input embedding, and the embeddings that share its weight: encoder and decoder of T5."""
    embedding = _own_embedding(model)
    name = next((n for n, module in model.named_modules() if module is embedding), None)
    if name is None:
        raise InputError(
            f"{type(model).__name__} names no input embedding; name the modules that are meant"
        )
    weight, declared = getattr(embedding, "weight", None), _declared_as_tied(model, name)
    return {
        other: module
        for other, module in model.named_modules()
        if other == name
        or (isinstance(module, nn.Embedding) and (module.weight is weight or other in declared))
    }


def _declared_as_tied(model: nn.Module, name: str) -> set[str]:
    """Modules that the model says share the weight: offloaded weights are no longer one object.

    transformers 5 lists them, each with the name that all of them are tied to.
    """
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    source = tied.get(f"{name}.weight", f"{name}.weight")
    return {
        key.removesuffix(".weight")
        for key, value in {**tied, source: source}.items()
        if value == source
    }


def input_embedding_names(model: nn.Module) -> tuple[str, ...]:
    """Names of what `patch_embeddings` patches unless told otherwise; empty where there is none."""
    try:
        return tuple(input_embeddings(model))
    except InputError:
        return ()


def _own_embedding(model: nn.Module) -> nn.Module | None:
    try:
        return model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None


# ------------------------------------------------------------------------------- staying patched


class _Follower:
    """Hook of the whole model: what stands where a patched embedding stood is patched too."""

    def __init__(self) -> None:
        self.devices: dict[str, str | None] = {}

    def look_after(self, model: nn.Module, args: tuple) -> None:
        for name, device in self.devices.items():
            module = _module_at(model, name)
            if module is not None and patch_of(module) is None:
                patch_module(module, device)


def _module_at(model: nn.Module, name: str) -> nn.Module | None:
    try:
        return model.get_submodule(name)
    except AttributeError:  # the place itself is gone
        return None


def _follow(model: nn.Module, devices: dict[str, str | None]) -> None:
    follower = next((each for _, each in _followers(model)), None)
    if follower is None:
        follower = _Follower()
        model.register_forward_pre_hook(follower.look_after)
    follower.devices.update(devices)


def _unfollow(model: nn.Module, names: Iterable[str]) -> None:
    for key, follower in list(_followers(model)):
        for name in names:
            follower.devices.pop(name, None)
        if not follower.devices:
            del model._forward_pre_hooks[key]


def _followers(model: nn.Module) -> Iterator[tuple[int, _Follower]]:
    for key, hook in model._forward_pre_hooks.items():
        owner = getattr(hook, "__self__", None)
        if isinstance(owner, _Follower):
            yield key, owner


# A patched embedding has two hooks: ids in from any device, the output out to where it is needed.
#
# The output is needed on the device where the calling code runs, which is where the token ids were:
# a forward creates masks and positions beside the ids and adds them to the output.  A fixed device
# is for code that moves only the ids to the embedding
# (``embed_tokens(input_ids.to(embed_tokens.weight.device))``).
#
# Both are PyTorch's own hooks, outside ``forward``.  accelerate's changes to ``forward`` happen
# between them: they move the ids to the embedding's GPU, bring offloaded weights there, and leave
# the output for the second hook.
#
# `EmbeddingPatch` is part of a pickled model: a process that unpickles the model needs devplan.


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
    if hook_device(module) is not None:
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
