"""A tensor is moved to a card once in a forward, not once for every layer that uses it.

accelerate's hooks move the arguments of each module and forget them: position embeddings, masks and
the encoder's output, made on one card, cross again for every layer on another.  Here each hook's
``pre_forward`` is accelerate's own code, with one name in it bound anew: ``send_to_device`` asks
`Copies` before it copies.  Everything else that the hook does (offloaded weights, ties, what it
remembers of its inputs) stays accelerate's.

A **forward** is the outermost call, in one thread, of a module that calls hooked ones: the model,
or the encoder that ``generate`` calls alone.  When it ends, by an exception too, the copies go.
Outside of a forward nothing is kept, and nothing is counted.
"""

from __future__ import annotations

import functools
import inspect
import logging
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.core import InputError, described, format_bytes, prefixes
from devplan.runtime.copies import Copies
from devplan.virtual import align_hooks, hook_devices

log = logging.getLogger(__name__)

_KEPT_AS_THEY_ARE = frozenset({type(None), bool, int, float, str})
_TENSORS = frozenset({torch.Tensor, nn.Parameter})


def cache_transfers(model: nn.Module) -> TransferCache:
    """Move a tensor to a card once in a forward; outputs stay the same to the bit.

    Parameters
    ----------
    model
        A model that accelerate has dispatched (``from_pretrained(device_map=...)``).  A model
        without accelerate's hooks has nothing to save, and is left as it is.

    Returns
    -------
    TransferCache
        With the counters; ``.remove()`` takes it off again.  A model that has a cache keeps it.

    Raises
    ------
    InputError
        When it is no model; of a pipeline give each model.

    Examples
    --------
    >>> cache = devplan.cache_transfers(model)
    >>> _ = model.generate(**inputs)
    >>> print(cache.total)
    12 copies (1.20 MiB) instead of 273 (11.40 MiB) in 3 forwards
    >>> cache.remove()
    """
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{described(model)} is not a torch module; give each of its models: "
            "devplan.cache_transfers(pipeline.transformer)"
        )
    cache = transfer_cache_of(model) or TransferCache()
    cache.attach(model)
    return cache


def transfer_cache_of(model: nn.Module) -> TransferCache | None:
    """The cache of a model, if it has one."""
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            owner = getattr(hook, "__self__", None)
            if isinstance(owner, TransferCache):
                owner.serves(model)
                return owner
    return None


class TransferCache:
    """The cache of one model, for all its threads; also a context, at whose end it is removed.

    A copy of the model (``copy.deepcopy``) has a cache of its own.
    """

    def __init__(self) -> None:
        self._models: weakref.WeakSet[nn.Module] = weakref.WeakSet()
        self._thread = ThreadState()
        self._lock = threading.Lock()
        self._total = self._last = TransferCounts()
        self._functions: dict[type, Callable | None] = {}
        self._devices: dict[Any, torch.device | None] = {}

    # ------------------------------------------------------------------------------- counters

    @property
    def total(self) -> TransferCounts:
        """Of all forwards that have ended."""
        return self._total

    @property
    def last(self) -> TransferCounts:
        """Of the forward that ended last."""
        return self._last

    def __repr__(self) -> str:
        return f"TransferCache({self._total})"

    # --------------------------------------------------------------------- on and off the model

    def attach(self, model: nn.Module) -> None:
        """Take over the hooks that are there; those that are taken over already stay so."""
        self.serves(model)
        hooks = [hook for module in model.modules() for hook in align_hooks(module)]
        for hook in {id(hook): hook for hook in hooks}.values():
            self._take_over(hook)
        devices = {name: hook_devices(module) for name, module in model.named_modules()}
        for name in _callers(devices):
            self._watch(model.get_submodule(name))

    def serves(self, model: nn.Module) -> None:
        """Note whose cache this is: the model's, of which a part may have had it before."""
        self._models.add(model)

    def remove(self) -> None:
        """Give every hook back as it was."""
        for module in {module for model in self._models for module in model.modules()}:
            for hook in align_hooks(module):
                if _is_ours(hook, self):
                    del hook.pre_forward
            _unwatch(module, self)

    def __enter__(self) -> TransferCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def __reduce__(self) -> tuple:
        """A copy of the model gets a cache of its own, with nothing in it."""
        return TransferCache, ()

    def _take_over(self, hook: Any) -> None:
        if "pre_forward" in vars(hook):  # ours already, or somebody else's who knows what it does
            return
        if self.function_for(type(hook)) is None:
            log.warning("%s moves nothing that could be cached", type(hook).__name__)
            return
        hook.pre_forward = PreForward(hook, self)

    def _watch(self, module: nn.Module) -> None:
        if _watched_by(module, self):
            return
        module.register_forward_pre_hook(self._begin)
        module.register_forward_hook(self._end, always_call=True)

    # ------------------------------------------------------------------------------- forwards

    def _begin(self, module: nn.Module, args: tuple) -> None:
        thread = self._thread
        if thread.open and module in self._models:
            thread.keep_open(running_module_ids())  # Ctrl-C ends a forward without its hooks
        thread.open.append(id(module))

    def _end(self, module: nn.Module, args: tuple, output: Any) -> None:
        thread = self._thread
        if not thread.close(id(module)) or thread.open:
            return
        counts = thread.counts()
        thread.restart()
        with self._lock:
            self._last = counts
            self._total += counts

    # --------------------------------------------------------------------------------- moving

    def function_for(self, kind: type) -> Callable | None:
        """``pre_forward`` of a class of hooks, asking this cache; None where that cannot be."""
        if kind not in self._functions:
            self._functions[kind] = bound_anew(kind.pre_forward, self.send)
        return self._functions[kind]

    @functools.cached_property
    def _send_other(self) -> Callable:
        """accelerate's own way into containers and objects, which comes back here for its items."""
        from accelerate.hooks import send_to_device

        return bound_anew(send_to_device, self.send) or send_to_device

    def send(
        self, data: Any, device: Any, non_blocking: bool = False, skip_keys: Any = None
    ) -> Any:
        """What accelerate's ``send_to_device`` does, with one copy for all who ask for it."""
        kind = type(data)
        if kind in _TENSORS:
            return self._send_tensor(data, device, non_blocking)
        if kind in _KEPT_AS_THEY_ARE:
            return data
        if kind is tuple:
            return tuple([self.send(item, device, non_blocking, skip_keys) for item in data])
        if kind is dict:
            stay = (skip_keys,) if isinstance(skip_keys, str) else skip_keys or ()
            return {
                key: item if key in stay else self.send(item, device, non_blocking, skip_keys)
                for key, item in data.items()
            }
        return self._send_other(data, device, non_blocking, skip_keys)

    def _send_tensor(self, tensor: torch.Tensor, device: Any, non_blocking: bool) -> torch.Tensor:
        try:
            target = self._devices[device]
        except KeyError:
            target = self._devices[device] = _with_index(device)
        if target is not None and tensor.device == target:
            return tensor

        def copy() -> torch.Tensor:
            return self._send_other(tensor, device, non_blocking)

        thread = self._thread
        if target is None or not thread.open:
            return copy()
        moved, is_new = thread.copies.get(tensor, target, copy)
        if moved is not tensor:
            thread.count(tensor.numel() * tensor.element_size(), is_new)
        return moved


# ------------------------------------------------------------------------------ hooks and modules


def _callers(hooked: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """The whole model, and modules that call others which may run on another device than they."""
    devices: dict[str, set[str]] = {}
    for name, own in hooked.items():
        for prefix in prefixes(name):
            devices.setdefault(prefix, set()).update(own)
    for name, found in devices.items():
        # [no hook] the code of a module that no entry names runs where its caller's does.
        if found and (not name or len(found) > 1 or not hooked[name]):
            yield name


def _watched_by(module: nn.Module, cache: TransferCache) -> bool:
    hooks = module._forward_pre_hooks.values()
    return any(getattr(hook, "__self__", None) is cache for hook in hooks)


def _unwatch(module: nn.Module, cache: TransferCache) -> None:
    for hooks in (module._forward_pre_hooks, module._forward_hooks):
        for key in [k for k, hook in hooks.items() if getattr(hook, "__self__", None) is cache]:
            del hooks[key]
            module._forward_hooks_always_called.pop(key, None)


def _is_ours(hook: Any, cache: TransferCache) -> bool:
    own = vars(hook).get("pre_forward")
    return isinstance(own, PreForward) and own.cache is cache


def _with_index(device: Any) -> torch.device | None:
    """A hook's device; None where it names a kind and leaves the index open, or nothing."""
    if isinstance(device, bool) or not isinstance(device, (int, str, torch.device)):
        return None
    if isinstance(device, int):  # of the one kind of accelerator that there is
        return torch.device("cuda", device) if torch.cuda.is_available() else None
    named = torch.device(device)
    return named if named.index is not None or named.type in ("cpu", "meta") else None


class ThreadState(threading.local):
    """The copies, the counters, and the modules whose forward is running."""

    def __init__(self) -> None:
        self.copies = Copies()
        self.open: list[int] = []
        """Ids of the modules whose forward is running, the outermost first."""
        self.restart()

    def restart(self) -> None:
        self.open.clear()
        self.copies.clear()
        self.num_asked = self.asked_bytes = self.num_made = self.made_bytes = 0

    def close(self, module: int) -> bool:
        """End a module's forward, and those inside it that did not say so; whether it was open."""
        if module not in self.open:  # it ended before it began: a hook before ours raised
            return False
        while self.open.pop() != module:
            pass
        return True

    def keep_open(self, running: set[int]) -> None:
        self.open = [module for module in self.open if module in running]
        if not self.open:
            self.restart()

    def count(self, num_bytes: int, made: bool) -> None:
        self.num_asked += 1
        self.asked_bytes += num_bytes
        if made:
            self.num_made += 1
            self.made_bytes += num_bytes

    def counts(self) -> TransferCounts:
        return TransferCounts(
            num_forwards=1,
            num_asked=self.num_asked,
            asked_bytes=self.asked_bytes,
            num_made=self.num_made,
            made_bytes=self.made_bytes,
        )


def running_module_ids() -> set[int]:
    """Ids of the modules that are called in this thread, but for the one whose hook asks."""
    frame, running = sys._getframe(1), []
    while frame is not None:
        if frame.f_code is nn.Module._call_impl.__code__:
            running.append(id(frame.f_locals["self"]))
        frame = frame.f_back
    return set(running[1:])


@dataclass(frozen=True, kw_only=True)
class TransferCounts:
    """Copies of tensors from one device to another, asked for by accelerate's hooks."""

    num_forwards: int = 0
    num_asked: int = 0
    """Copies that the hooks asked for: what is made without the cache."""
    asked_bytes: int = 0
    num_made: int = 0
    """Copies that were made."""
    made_bytes: int = 0

    @property
    def num_saved(self) -> int:
        return self.num_asked - self.num_made

    @property
    def saved_bytes(self) -> int:
        return self.asked_bytes - self.made_bytes

    def __add__(self, other: TransferCounts) -> TransferCounts:
        return TransferCounts(
            num_forwards=self.num_forwards + other.num_forwards,
            num_asked=self.num_asked + other.num_asked,
            asked_bytes=self.asked_bytes + other.asked_bytes,
            num_made=self.num_made + other.num_made,
            made_bytes=self.made_bytes + other.made_bytes,
        )

    def __str__(self) -> str:
        return (
            f"{self.num_made:,} copies ({format_bytes(self.made_bytes)}) instead of "
            f"{self.num_asked:,} ({format_bytes(self.asked_bytes)}) in {self.num_forwards:,} "
            f"forward{'' if self.num_forwards == 1 else 's'}"
        )


_MOVES = "send_to_device"


class PreForward:
    """``pre_forward`` of one hook, asking a cache; a copy of the hook gets one of its own."""

    def __init__(self, hook: Any, cache: TransferCache) -> None:
        self.hook = hook
        self.cache = cache
        self.function = cache.function_for(type(hook))

    def __call__(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():  # accelerate keeps its hooks out of compiled code
            return type(self.hook).pre_forward(self.hook, module, *args, **kwargs)
        return self.function(self.hook, module, *args, **kwargs)

    def __reduce__(self) -> tuple:
        return PreForward, (self.hook, self.cache)


def bound_anew(function: Callable, send: Callable) -> Callable | None:
    """The same code, in which ``send_to_device`` is another; None where the code has no such name.

    accelerate's decorator, which keeps a hook out of compiled code, is left out: it costs more than
    what it wraps, and the caller sees to it.
    """
    plain = inspect.unwrap(function)
    if not isinstance(plain, types.FunctionType) or not _names(plain.__code__, _MOVES):
        return None
    scope = {**plain.__globals__, _MOVES: send}
    bound = types.FunctionType(
        plain.__code__, scope, plain.__name__, plain.__defaults__, plain.__closure__
    )
    bound.__kwdefaults__ = plain.__kwdefaults__
    return bound


def _names(code: types.CodeType, name: str) -> bool:
    """Whether code, or a generator expression in it, uses a global name."""
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return name in code.co_names or any(_names(each, name) for each in inner)
