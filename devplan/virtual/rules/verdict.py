"""What the rules say about one op.

A *verdict* names the device on which the result lies and, where real PyTorch would have raised,
the *mismatch*: its message and every operand, so that a report needs nothing else and an engine
can move the odd operands and go on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
