"""Ops whose generated CUDA wrapper compares devices before the kernel is reached.

torchgen writes, for every CUDA kernel that is not marked ``device_check: NoCheck``, a wrapper
that walks the ``out`` arguments and then the positional tensors in schema order; keyword-only
tensors are not looked at.  The first tensor sets the device, each further one must have the same.
**Nothing is excused**: neither a CPU tensor without dimensions nor an empty one
(``torch.cat([torch.tensor([]), x])`` raises when ``x`` lies on a GPU).

Most matrix, indexing, normalisation and shape ops with several operands are of this kind.  Some
composite ops do nothing but call one of them; they share its wrapper's name and argument names.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from devplan.virtual.rules.rule import Call, Clash, Seen, clash_at, gathering_place


@dataclass(frozen=True, kw_only=True)
class WrapperCheck:
    """All tensors of the listed arguments on one device.

    Attributes
    ----------
    method : str
        The wrapper's name after ``wrapper_CUDA_``.
    arguments : tuple[tuple[str, str], ...]
        In the order of the check: the argument of this op, and its name in the message.
    """

    method: str
    arguments: tuple[tuple[str, str], ...]
    name: str = "one device, scalars included"
    source: str = (
        "torchgen/dest/register_dispatch_key.py gen_device_check; "
        "aten/src/ATen/core/op_registration/adaption.h; aten/src/ATen/core/adaption.cpp"
    )

    def weigh(self, call: Call) -> Clash | None:
        checked = list(self._in_order(call))
        if not checked:
            return None
        common = checked[0][1].device
        for printed, item in checked:
            if item.device != common:
                return clash_at(
                    self._message(printed, item.device, common),
                    gathering_place(seen for _, seen in checked),
                    (seen for _, seen in checked),
                )
        return None

    def home(self, call: Call) -> torch.device:
        return next((item.device for _, item in self._in_order(call)), call.seen[0].device)

    def _in_order(self, call: Call) -> Iterator[tuple[str, Seen]]:
        for argument, printed in self.arguments:
            for item in call.of(argument):
                yield printed, item

    def _message(self, printed: str, odd: torch.device, common: torch.device) -> str:
        if "meta" in (odd.type, common.type):  # a weight that an offloading hook did not load
            present = common if odd.type == "meta" else odd
            return f"Tensor on device {present} is not on the expected device meta!"
        return (
            f"Expected all tensors to be on the same device, but got {printed} is on {odd}, "
            f"different from other tensors on {common} "
            f"(when checking argument in method wrapper_CUDA_{self.method})"
        )


def checked_as(method: str, **printed: str) -> WrapperCheck:
    """A composite op that ends in the wrapper `method`: own argument -> name in its message."""
    return WrapperCheck(method=method, arguments=tuple(printed.items()))


def checked_by_schema(method: str, func) -> WrapperCheck:
    """The order that torchgen uses: outputs, then positional tensors."""
    outputs = [item.name for item in func._schema.arguments if item.is_out]
    inputs = [item.name for item in func._schema.arguments if not item.kwarg_only]
    return WrapperCheck(
        method=method, arguments=tuple((name, name) for name in [*outputs, *inputs])
    )
