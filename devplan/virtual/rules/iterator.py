"""Elementwise ops: TensorIterator compares the devices.

The first operand that is not on the CPU (outputs before inputs) sets the common device.  Every
other operand must lie there, with one exception where the op allows it: **one** input on the CPU
without dimensions is taken as a number.  An output is never excused, so ``cpu_scalar.add_(gpu)``
raises, and so does a tensor without dimensions of *another GPU*: it is no CPU scalar.

``where`` is more generous than all others: before it iterates, it brings every operand without
dimensions to the common device, whichever device it came from.

``torch._foreach_*`` treats the lists pair by pair, each pair like the elementwise op.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.rule import (
    Call,
    Clash,
    Seen,
    clash_at,
    first_accelerator,
    gathering_place,
    one_device,
)

_TOO_MANY_SCALARS = "Trying to pass too many CPU scalars to non-CPU kernel!"


def outputs_first(seen: tuple[Seen, ...]) -> tuple[Seen, ...]:
    """The order in which TensorIterator takes its operands."""
    return tuple(sorted(seen, key=lambda item: not item.is_output))


@dataclass(frozen=True, kw_only=True)
class Elementwise:
    """One device; at most one CPU input without dimensions counts as a number."""

    num_excused: int = 1
    """CPU scalars that the op takes as numbers: 1, or 0 where its configuration allows none."""
    ignored: tuple[str, ...] = ()
    """Arguments that are read with ``item()`` before the iteration."""
    name: str = "one device, CPU scalar excepted"
    source: str = "aten/src/ATen/TensorIterator.cpp compute_types; TensorIteratorConfig"

    def weigh(self, call: Call) -> Clash | None:
        return _weigh_operands(self._iterated(call), self.num_excused)

    def home(self, call: Call) -> torch.device:
        return first_accelerator(outputs_first(self._iterated(call)))

    def _iterated(self, call: Call) -> tuple[Seen, ...]:
        return tuple(item for item in call.seen if item.argument not in self.ignored)


def _weigh_operands(seen: tuple[Seen, ...], num_excused: int) -> Clash | None:
    ordered = outputs_first(seen)
    common = first_accelerator(ordered)
    num_scalars = 0
    for item in ordered:
        if item.is_cpu_scalar and not item.is_output and num_excused and common.type != "cpu":
            num_scalars += 1
            if num_scalars > num_excused:
                return clash_at(_TOO_MANY_SCALARS, common, seen)
        elif item.device != common:
            kept = [x for x in seen if not (x.is_cpu_scalar and num_excused and not x.is_output)]
            return clash_at(one_device(common, item.device), gathering_place(kept), kept)
    return None


@dataclass(frozen=True, kw_only=True)
class Where:
    """Operands without dimensions come along; the others share a device."""

    name: str = "one device, 0-dim operands moved"
    source: str = "aten/src/ATen/native/TensorCompare.cpp where_self_out"

    def weigh(self, call: Call) -> Clash | None:
        common = first_accelerator(call.seen)
        firm = tuple(item for item in call.seen if item.tensor.dim())
        for item in firm:
            if item.device != common:
                return clash_at(one_device(common, item.device), common, firm)
        return None

    def home(self, call: Call) -> torch.device:
        return first_accelerator(call.seen)


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """Lists of tensors, the i-th of each list with the i-th of the others."""

    name: str = "lists, pair by pair"
    source: str = "aten/src/ATen/native/ForeachUtils.h check_fast_path_restrictions (slow path)"

    def weigh(self, call: Call) -> Clash | None:
        groups: dict[str, list[Seen]] = {}
        for item in call.seen:
            if item.path != item.argument:
                groups.setdefault(item.path.removeprefix(item.argument), []).append(item)
        weighed = [(group, _weigh_operands(tuple(group), 1)) for group in groups.values()]
        clashes = [(group, clash) for group, clash in weighed if clash]
        if not clashes:
            return None
        first = clashes[0][1]
        return clash_at(first.message, first.target, [x for group, _ in clashes for x in group])

    def home(self, call: Call) -> torch.device:
        return call.seen[0].device
