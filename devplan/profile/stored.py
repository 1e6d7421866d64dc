"""What a checkpoint holds, by parameter: sizes from safetensors headers.

Every stored tensor is attributed to the parameter (or buffer) of the skeleton that it belongs to:
by its name, by the class's own conversions (``checkpoint_names``), and, for the pieces of packed
weights, by the module that they are pieces of: ``q_proj.weight_packed``, ``q_proj.weight_scale``
and ``q_proj.weight_shape`` all belong to ``q_proj.weight``, ``experts.7.up_proj.qweight`` to the
fused ``experts.gate_up_proj``.

For an unquantized checkpoint these sizes do not decide what lies in memory, as ``from_pretrained``
casts to the model's dtype.  For a quantized one they do, for the parameters that are packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

from devplan.profile.checkpoint_names import CheckpointNames
from devplan.profile.dtypes import StoredTensor

_PACKED_DTYPES = frozenset({"I8", "U8", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4"})


@dataclass(frozen=True, kw_only=True)
class StoredSizes:
    """A checkpoint's bytes, attributed to the parameters of a skeleton."""

    bytes: Mapping[str, int]
    """Parameter -> bytes of everything that is stored of it."""
    packed: frozenset[str]
    """Parameters of which pieces of a packed weight are stored, or an integer or 8-bit dtype."""
    buffers: Mapping[str, int] = field(default_factory=dict)
    """Buffer -> stored bytes."""
    unmatched: Mapping[str, int] = field(default_factory=dict)
    """Stored tensor that belongs to nothing in the skeleton -> bytes."""
    missing: tuple[str, ...] = ()
    """Parameters of which nothing is stored."""


def stored_bytes(model: nn.Module, stored: Mapping[str, StoredTensor]) -> StoredSizes:
    """Attribute every stored tensor to the parameter that it belongs to.

    Parameters
    ----------
    model
        Skeleton on the meta device, not quantized.
    stored
        Name -> tensor of all the checkpoint's headers.

    Returns
    -------
    StoredSizes
        Tied parameters count under the name that ``named_parameters()`` gives them, once.
    """
    skeleton = _Skeleton(model)
    names = CheckpointNames(model, skeleton.known)
    book = _Book(skeleton)
    tensors = _in_loading_order(stored) if names.depends_on_order else stored.values()
    for tensor in tensors:
        targets, is_piece = names.resolve(tensor.name)
        if targets:
            book.enter(tensor, targets, packed=is_piece or tensor.dtype in _PACKED_DTYPES)
        else:
            book.unmatched[tensor.name] = tensor.bytes
    return book.close()


def _in_loading_order(stored: Mapping[str, StoredTensor]) -> Iterable[StoredTensor]:
    """The order in which transformers 5 walks a checkpoint."""
    from transformers.core_model_loading import dot_natural_key

    return (stored[name] for name in sorted(stored, key=dot_natural_key))


class _Skeleton:
    """The names of a skeleton: all of them, and the first of each tied group."""

    def __init__(self, model: nn.Module) -> None:
        self.numel: dict[str, int] = {}
        self._first_name: dict[str, str] = {}
        first_by_id: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            first = first_by_id.setdefault(id(parameter), name)
            self._first_name[name] = first
            if first == name:
                self.numel[name] = parameter.numel()
        self.buffers = frozenset(name for name, _ in model.named_buffers())
        self.known = self.buffers.union(self._first_name)

    def first_name(self, name: str) -> str:
        """The name under which a (tied) parameter counts."""
        return self._first_name.get(name, name)


class _Book:
    """Collects stored bytes by parameter."""

    def __init__(self, skeleton: _Skeleton) -> None:
        self._skeleton = skeleton
        self._bytes: dict[str, int] = {}
        self._packed: set[str] = set()
        self._buffers: dict[str, int] = {}
        self._entered_as: dict[str, str] = {}
        self.unmatched: dict[str, int] = {}

    def enter(self, tensor: StoredTensor, targets: tuple[str, ...], *, packed: bool) -> None:
        """Enter a tensor; one that is split over several parameters, by their elements."""
        shares = [self._skeleton.numel.get(self._skeleton.first_name(t), 0) for t in targets]
        total = sum(shares)
        for target, share in zip(targets, shares, strict=True):
            part = tensor.bytes * share // total if total else tensor.bytes // len(targets)
            self._enter_one(target, part, packed)

    def _enter_one(self, target: str, num_bytes: int, packed: bool) -> None:
        if target in self._skeleton.buffers:
            self._buffers[target] = self._buffers.get(target, 0) + num_bytes
            return
        first = self._skeleton.first_name(target)
        # A tied parameter may be stored under each of its names: the first one counts.
        if self._entered_as.setdefault(first, target) != target:
            return
        self._bytes[first] = self._bytes.get(first, 0) + num_bytes
        if packed:
            self._packed.add(first)

    def close(self) -> StoredSizes:
        missing = tuple(name for name in self._skeleton.numel if name not in self._bytes)
        return StoredSizes(
            bytes=self._bytes,
            packed=frozenset(self._packed),
            buffers=self._buffers,
            unmatched=self.unmatched,
            missing=missing,
        )
