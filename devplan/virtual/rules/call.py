"""One call of an op as the rules read it: which tensor came in for which argument.

The dispatcher hands over positional arguments in schema order, keyword-only ones by name, and
drops defaults at the end.  A tensor list or a list of optional tensors is one argument.  Python
numbers that stand for a tensor (``x + 2``) are no operands.

Positions count the leaves of ``torch.utils._pytree.tree_flatten((args, kwargs))``: lists, tuples
and dicts are opened, everything else (``None`` included) is one leaf.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch

from devplan.virtual.labels import CPU, label_of
from devplan.virtual.rules.verdict import Operand


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
