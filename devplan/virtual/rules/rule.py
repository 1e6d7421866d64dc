"""What a rule is.

A rule looks at a call whose operands lie on different devices.  `weigh` answers with a `Clash`
where real PyTorch raises, and with None where it runs; `home` is then the device of the result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch

from devplan.virtual.labels import CPU
from devplan.virtual.rules.call import Call, Seen


@dataclass(frozen=True, kw_only=True)
class Clash:
    """PyTorch's message, the device to bring the operands to, and those that have to move."""

    message: str
    target: torch.device
    odd: tuple[Seen, ...]


class Rule(Protocol):
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
