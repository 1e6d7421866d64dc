"""What a rule is.

A rule looks at a call whose operands lie on different devices.  `weigh` answers with a `Clash`
where real PyTorch raises, and with None where it runs; `home` is then the device of the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol

import torch

from devplan.virtual.labels import CPU, label_of


@dataclass(frozen=True, kw_only=True)
class Clash:
    """PyTorch's message, the device to bring the operands to, and those that have to move."""

    message: str
    target: torch.device
    odd: tuple[Seen, ...]


class DeviceRule(Protocol):
    """How one family of ops treats operands of several devices."""

    name: str
    source: str
    """Where in PyTorch's sources the behaviour is written down."""

    def weigh(self, call: Call) -> Clash | None: ...

    def home(self, call: Call) -> torch.device: ...


def first_accelerator(seen: Iterable[Seen]) -> torch.device:
    """The first device that is not the CPU; the CPU where there is none."""
    return next((item.device for item in seen if not item.is_cpu), CPU)


def gathering_place(seen: Iterable[Seen]) -> torch.device:
    """Where a person would bring the operands together.

    What is written into cannot move, so its device comes first; otherwise the first GPU: nobody
    repairs a GPU model by moving its tensors to the CPU.
    """
    seen = tuple(seen)
    written = next((item.device for item in seen if item.is_output), None)
    return written if written is not None else first_accelerator(seen)


def clash_at(message: str, target: torch.device, seen: Iterable[Seen]) -> Clash:
    """A clash in which every operand that does not lie on `target` has to move there."""
    odd = tuple(item for item in seen if item.device != target)
    return Clash(message=message, target=target, odd=odd)


def one_device(message_first: torch.device, message_second: torch.device) -> str:
    """The sentence that most device errors consist of."""
    return (
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{message_first} and {message_second}!"
    )


# A *verdict* names the device of the result and, where real PyTorch would have raised, the
# *mismatch*: its message and every operand, so that a report needs nothing else and a run can
# move the odd operands and continue.


@dataclass(frozen=True, kw_only=True)
class Operand:
    """One tensor that the op received."""

    argument: str
    """Name of the argument in the op's schema: ``mat2``."""
    path: str
    """The argument with the place inside it: ``tensors[1]``, or the name alone."""
    position: int
    """Place among the leaves of ``tree_flatten((args, kwargs))``."""
    device: torch.device
    shape: tuple[int, ...]
    dtype: torch.dtype
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """Real PyTorch raises here.

    Attributes
    ----------
    message : str
        PyTorch's own text, as a recent release prints it.
    rule : str
        Name of the rule that was broken.
    operands : tuple[Operand, ...]
        Every tensor operand, in the order in which the op takes them.
    target : torch.device
        Where a person would bring the odd operands together with the others.
    moved : tuple[int, ...]
        Positions (see `Operand.position`) of the operands that have to move to `target`.
    assumed : bool
        No source is known for this op: the default rule was applied.
    """

    message: str
    rule: str
    operands: tuple[Operand, ...]
    target: torch.device
    moved: tuple[int, ...]
    assumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Where the result lies, and what is wrong, if anything.

    Attributes
    ----------
    device : torch.device | None
        None: a plain CPU tensor.  After a mismatch: where the result lies once the odd operands
        were moved.
    mismatch : Mismatch | None
    named : bool
        The device comes from the call's own ``device`` argument, not from an operand.
    """

    device: torch.device | None
    mismatch: Mismatch | None = None
    named: bool = False


# The dispatcher passes positional arguments in schema order and keyword-only ones by name, and
# drops defaults at the end. A tensor list or a list of optional tensors is one argument. Python
# numbers in place of a tensor (``x + 2``) are not operands.
#
# Positions count the leaves of ``torch.utils._pytree.tree_flatten((args, kwargs))``: lists,
# tuples and dicts are opened, everything else (``None`` included) is one leaf.


class Seen(NamedTuple):  # made for every op that mixes devices: a dataclass takes 5 times longer
    """A tensor operand with its virtual device; an unlabelled tensor lies on the CPU."""

    argument: str
    path: str
    position: int
    device: torch.device
    tensor: torch.Tensor
    is_output: bool
    """The op writes into it: ``self`` of an in-place op, ``out``."""

    @property
    def is_cpu(self) -> bool:
        return self.device.type == "cpu"

    @property
    def is_cpu_scalar(self) -> bool:
        """A CPU tensor without dimensions, which most elementwise ops take as a number."""
        return self.is_cpu and self.tensor.dim() == 0

    def described(self) -> Operand:
        tensor = self.tensor
        return Operand(
            argument=self.argument,
            path=self.path,
            position=self.position,
            device=self.device,
            shape=tuple(tensor.shape),
            dtype=tensor.dtype,
            num_bytes=tensor.numel() * tensor.element_size(),
        )


class Call(NamedTuple):
    """An op with its tensor operands in the order of the arguments."""

    func: Any
    seen: tuple[Seen, ...]
    values: dict[str, Any]
    """Every argument that was given, by its name."""

    def of(self, argument: str) -> tuple[Seen, ...]:
        """The tensors that came in for one argument; none when it was left out."""
        return tuple(item for item in self.seen if item.argument == argument)


@cache
def argument_names(func) -> tuple[tuple[str, bool], ...]:
    """Per argument of the schema: its name and whether the op writes into it."""
    return tuple(
        (argument.name, bool(argument.alias_info and argument.alias_info.is_write))
        for argument in func._schema.arguments
    )


def read_call(func, args: tuple, kwargs: dict) -> Call:
    """Name every tensor of a call, with its path and position."""
    names = argument_names(func)
    given = {name: item for (name, _), item in zip(names, args, strict=False)}
    given.update(kwargs)
    written = {name for name, is_written in names if is_written}
    seen: list[Seen] = []
    position = 0
    for name, item in given.items():
        for path, leaf in _leaves(name, item):
            if isinstance(leaf, torch.Tensor):
                device = label_of(leaf) or CPU
                seen.append(Seen(name, path, position, device, leaf, name in written))
            position += 1
    return Call(func, tuple(seen), given)


def _leaves(path: str, item: Any) -> list[tuple[str, Any]]:
    if type(item) in (list, tuple):
        return [leaf for i, part in enumerate(item) for leaf in _leaves(f"{path}[{i}]", part)]
    if type(item) is dict:
        return [leaf for key, part in item.items() for leaf in _leaves(f"{path}[{key!r}]", part)]
    return [(path, item)]
