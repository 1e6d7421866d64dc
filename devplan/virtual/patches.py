"""Everything that is patched for the time of a virtual run, and put back at its end.

Model code chooses kernels by asking ``torch.cuda``, sets attributes of modules, remembers results
and warns about what nobody can act on.  Each patch is a context, to be entered under the one lock
of the process (``devplan.sandbox.exclusive``); whatever happens inside, the process, the libraries
and the model are left as they were.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import sys
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.distributions import Distribution
from torch.utils import checkpoint

from devplan.core import GIB
from devplan.models import never_asked
from devplan.sandbox import exclusive, patched, patched_here, set_environment, shielded
from devplan.virtual.labels import give_name, label_of, mark, name_of, unmark

# ``lru_cache`` over tensors: anchors and position embeddings are made once for a size and a
# device (RT-DETR, DETR, DINOv3). A later run, virtual or real, must not get tensors without data,
# nor a virtual run real ones.

_Cached = type(functools.cache(len))
_EMPTY = types.CellType()


def forget_results(classes: Iterable[type]) -> None:
    """Clear what methods of these classes, and functions beside these classes, remember."""
    found = {base for cls in set(classes) for base in cls.__mro__ if not _is_torch(base)}
    modules = {cls.__module__ for cls in found}
    for cls in found:
        _forget(vars(cls).values())
    for name in modules & sys.modules.keys():
        content = vars(sys.modules[name]).values()
        _forget(value for value in content if getattr(value, "__module__", None) == name)


def _is_torch(cls: type) -> bool:
    """Whether it is PyTorch's own, or Python's; neither remembers tensors."""
    return cls.__module__.partition(".")[0] in ("torch", "builtins", "abc", "typing")


def _forget(values: Iterable[Any]) -> None:
    for value in list(values):
        for part in _parts(value):
            if isinstance(part, _Cached):
                part.cache_clear()


def _parts(value: Any) -> Iterator[Any]:
    """A function, and the one that it wraps: transformers' own decorator keeps it in a cell."""
    value = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    yield value
    if isinstance(value, types.FunctionType):
        for cell in value.__closure__ or ():
            if cell != _EMPTY:
                yield cell.cell_contents


# A run labels tensors, wraps ``forward`` methods and swaps buffers. A model's own code may
# register other buffers (dynamic rotary embeddings) or hooks (transformers' capturing of hidden
# states), or keep states in attributes (Griffin), even those of layers that do not run
# themselves.

_DICTS = (dict, OrderedDict)


class Loan:
    """A context; every module that was kept, or set an attribute inside, is restored at its end.

    Attributes
    ----------
    kept : dict
        Module -> its attributes as they were, and copies of those that are dicts: parameters,
        buffers, hooks.
    """

    def __init__(self) -> None:
        self.kept: dict[nn.Module, tuple[dict, dict[str, dict]]] = {}
        self._undo = contextlib.ExitStack()

    def keep(self, module: nn.Module) -> None:
        """Remember one module as it is now, unless it is remembered already."""
        if module not in self.kept:
            content = dict(vars(module))
            inner = {name: dict(each) for name, each in content.items() if type(each) in _DICTS}
            self.kept[module] = content, inner

    def __enter__(self) -> Loan:
        construct, set_attribute = nn.Module.__init__, nn.Module.__setattr__
        made: set[nn.Module] = set()
        """Modules made inside belong to the run: caches were modules up to transformers 4.48."""

        def noted_init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            made.add(module)
            construct(module, *args, **kwargs)

        def keep_and_set(module: nn.Module, name: str, value: Any) -> None:
            if module not in made:
                self.keep(module)
            set_attribute(module, name, value)

        self._undo.enter_context(patched_here(nn.Module, "__init__", noted_init))
        self._undo.enter_context(patched_here(nn.Module, "__setattr__", keep_and_set))
        return self

    def give_back(self) -> None:
        """Put every module that was kept back as it was."""
        forget_results(map(type, self.kept))
        for module, (attributes, inner) in self.kept.items():
            _refill(vars(module), attributes)
            for name, content in inner.items():
                _refill(attributes[name], content)

    def __exit__(self, *exception: object) -> None:
        with shielded():
            self._undo.close()
            self.give_back()
            for _, inner in self.kept.values():
                for name in ("_parameters", "_buffers"):
                    for tensor in inner.get(name, {}).values():
                        if tensor is not None:
                            unmark(tensor)


class ModelSnapshot:
    """The attributes of a model's modules at one moment, to which they can be put back.

    Labels of tensors stay: it is taken, and put back, in the middle of a run.
    """

    def __init__(self, model: nn.Module) -> None:
        self._loan = Loan()
        for module in model.modules():
            self._loan.keep(module)

    def restore(self) -> None:
        """Put every module back."""
        self._loan.give_back()


def _refill(mapping: dict, content: dict) -> None:
    if list(mapping) != list(content):  # [Ctrl-C] strikes an empty mapping as seldom as can be
        mapping.clear()
    mapping.update(content)


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give every module of a model back as it was."""
    with Loan() as loan:
        for module in model.modules():
            loan.keep(module)
        forget_results(map(type, loan.kept))
        yield


# Model code chooses its kernels by asking ``torch.cuda`` (grouped matrix products in MoE layers
# ask for the compute capability). Other threads of the process get the answers that they always
# get.


@dataclass(frozen=True, kw_only=True)
class VirtualCard:
    """What a GPU that is not there says of itself."""

    name: str = "virtual GPU"
    capability: tuple[int, int] = (8, 0)
    """Compute capability; 8.0 is the first with bfloat16 matrix products."""
    total_bytes: int = 80 * GIB


@contextlib.contextmanager
def answering(cards: tuple[VirtualCard, ...]) -> Iterator[None]:
    """Let ``torch.cuda`` speak for `cards` inside the block."""

    def card(device: Any = None) -> VirtualCard:
        return cards[_index(device)]

    def properties(device: Any = None) -> SimpleNamespace:
        chosen = card(device)
        return SimpleNamespace(
            name=chosen.name,
            major=chosen.capability[0],
            minor=chosen.capability[1],
            total_memory=chosen.total_bytes,
            multi_processor_count=108,
            warp_size=32,
        )

    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: len(cards),
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: card().capability >= (8, 0),
        "get_device_capability": lambda device=None: card(device).capability,
        "get_device_name": lambda device=None: card(device).name,
        "get_device_properties": properties,
        "mem_get_info": lambda device=None: (card(device).total_bytes, card(device).total_bytes),
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
    }
    with contextlib.ExitStack() as undo:
        for name, answer in answers.items():
            if hasattr(torch.cuda, name):
                undo.enter_context(patched_here(torch.cuda, name, answer))
        # Compiled code is run as it is written: what it computes, and where, is the same.
        undo.enter_context(patched_here(torch, "compile", _as_written))
        yield


def _as_written(model: Any = None, **options: Any) -> Any:
    """``torch.compile``, called or as a decorator with options."""
    return model if model is not None else lambda function: function


def _index(device: Any) -> int:
    if device is None:
        return 0
    return device if isinstance(device, int) else torch.device(device).index or 0


# ``torch.device(0)`` means the first GPU, and PyTorch refuses it on a machine without GPUs.
# accelerate up to 1.14 calls it with every number in ``max_memory`` (``get_balanced_memory``).


@contextlib.contextmanager
def cards_by_number(module: ModuleType) -> Iterator[None]:
    """Let the code of one module take a number for a CUDA card, as on a machine with cards."""
    with exclusive(), patched(module, "torch", _TorchWithCards()):
        yield


class _DeviceKind(type):
    def __instancecheck__(cls, item: Any) -> bool:
        return isinstance(item, torch.device)


class _Device(metaclass=_DeviceKind):
    """``torch.device``, for which a number is a CUDA card."""

    def __new__(cls, device: Any, *index: Any) -> Any:
        return (
            torch.device("cuda", device)
            if isinstance(device, int)
            else torch.device(device, *index)
        )


class _TorchWithCards:
    device = _Device

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings while a model's code runs: in a virtual run nobody can act on them.

    Distributions do not check their parameters, which may have no values.  The environment is as
    before at the end: ``generate`` sets ``TOKENIZERS_PARALLELISM`` where it finds a CUDA device,
    which the caller's process may not have.
    """
    with exclusive():
        disabled, variables = logging.root.manager.disable, dict(os.environ)
        try:
            logging.disable(logging.WARNING)
            with warnings.catch_warnings(), never_asked():
                warnings.simplefilter("ignore")
                with patched(Distribution, "_validate_args", False):
                    yield
        finally:
            logging.disable(disabled)
            set_environment(variables)


@contextlib.contextmanager
def virtual_machine(model: nn.Module, cards: tuple[VirtualCard, ...]) -> Iterator[None]:
    """The process as every virtual run of a model needs it; other runs wait until the end."""
    with exclusive(), lean(model), torch.no_grad(), answering(cards):
        yield


@contextlib.contextmanager
def lean(model: nn.Module) -> Iterator[None]:
    """Set the process for very many very small ops, and back afterwards.

    * One thread.  What is computed for real has 2**20 elements at most, and threads that wait for
      each other on a busy machine cost more than they save: DeepSeek-V3 with 2,048 tokens took
      2.3 s with two threads on two busy cores, 1.1 s with one.  A model with real weights keeps its
      threads: they divide a sum differently, and its last bit would be another.
    * The garbage collector leaves out objects that exist already: a process with transformers has a
      million of them, and a full collection takes 0.2 s.
    """
    num_threads, is_frozen = torch.get_num_threads(), gc.get_freeze_count() > 0
    first = next(model.parameters(), None)
    try:
        if first is None or first.is_meta:
            torch.set_num_threads(1)
        if not is_frozen:
            gc.freeze()
        yield
    finally:
        torch.set_num_threads(num_threads)
        if not is_frozen:
            gc.unfreeze()


@contextlib.contextmanager
def past_the_modes() -> Iterator[None]:
    """Let what goes past every mode keep to the labels.

    A new ``nn.Parameter`` lies where its data lies: accelerate makes them when it moves one.
    Optimizers and the clipping of gradients group tensors by device.  Activation checkpointing
    compares the devices of what it made twice.
    """
    construct = nn.Parameter.__new__

    def labelled(cls, data=None, requires_grad=True):
        parameter = construct(cls, data, requires_grad)
        label = label_of(data) if isinstance(data, torch.Tensor) else None
        if label is None:
            return parameter
        return give_name(mark(parameter, label, None), name_of(data))

    with contextlib.ExitStack() as undo:
        undo.enter_context(patched_here(nn.Parameter, "__new__", labelled))
        if hasattr(torch._C, _GROUPED):  # [2.2] came with it
            undo.enter_context(patched_here(torch._C, _GROUPED, _grouped))
        if compared := vars(checkpoint).get(_COMPARED):
            as_labelled = {**compared, "default": _as_labelled}
            undo.enter_context(patched(checkpoint, _COMPARED, as_labelled))
        yield


_GROUPED = "_group_tensors_by_device_and_dtype"
_COMPARED = "_allowed_determinism_checks_to_fns"


def _as_labelled(tensor: torch.Tensor) -> dict[str, Any]:
    """What has to be the same of a tensor when it is computed again."""
    return {
        "shape": tensor.shape,
        "dtype": tensor.dtype,
        "device": label_of(tensor) or tensor.device,
    }


def _grouped(
    lists: Sequence[Sequence[torch.Tensor | None]], with_indices: bool = False
) -> dict[tuple[torch.device, torch.dtype], tuple[list[list[Any]], list[int]]]:
    """What ``torch._C`` gives: the lists cut into groups whose first tensors are alike.

    Lists after the first may be empty.
    """
    groups: dict[tuple[torch.device, torch.dtype], tuple[list[list[Any]], list[int]]] = {}
    for index, first in enumerate(lists[0]):
        key = (label_of(first) or first.device, first.dtype)
        columns, indices = groups.setdefault(key, ([[] for _ in lists], []))
        for column, tensors in zip(columns, lists, strict=True):
            column.extend(tensors[index : index + 1])
        if with_indices:
            indices.append(index)
    return groups


def backward_inside(
    around: Callable[[], contextlib.AbstractContextManager[Any]],
) -> contextlib.AbstractContextManager[None]:
    """Let autograd's engine run inside `around`: it may call the model's code again."""
    run = torch.autograd._engine_run_backward

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with around():
            return run(*args, **kwargs)

    return patched_here(torch.autograd, "_engine_run_backward", wrapped)


def no_driver() -> contextlib.AbstractContextManager[None]:
    """Keep ``dispatch_model`` from asking ``nvidia-smi`` how this machine's own GPUs copy."""
    from accelerate import big_modeling

    name = "check_cuda_p2p_ib_support"
    if not hasattr(big_modeling, name):  # [0.25] came with it
        return contextlib.nullcontext()
    return patched_here(big_modeling, name, lambda: True)
