"""From an op to its rule, once per op, and from a call to its verdict.

Tens of thousands of ops pass here in a run and nearly all find their operands on one device.  The
plan of an op (cached) says which positional arguments can hold tensors; the common case is one
walk over them that compares labels and returns a verdict which exists already.  Only when two
labels differ is the call read with names and positions and given to the rule.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import torch
import torch.nn.functional as F

from devplan.virtual.labels import label_of
from devplan.virtual.rules.checked import checked_by_schema
from devplan.virtual.rules.crossing import OnCpu
from devplan.virtual.rules.iterator import outputs_first
from devplan.virtual.rules.rule import (
    Call,
    Clash,
    DeviceRule,
    Mismatch,
    Verdict,
    clash_at,
    first_accelerator,
    gathering_place,
    one_device,
    read_call,
)
from devplan.virtual.rules.table import EXACT, FAMILIES, FOREACH, OUT_ONLY

_NO_TENSOR, _TENSOR, _LIST = range(3)
_UNSEEN: Any = object()
_APART: Any = object()


@dataclass(frozen=True, kw_only=True, slots=True)
class OpPlan:
    """What is known about an op before any call."""

    kinds: tuple[int, ...]
    """Per positional argument: none, one tensor, or a list of tensors."""
    device_position: int | None
    """Place of a positional ``device`` argument; keyword ones are looked up by name."""
    always_weighed: bool
    """The rule has to be asked even if all operands lie on one device."""
    rule: DeviceRule


def judge_op(func, args: tuple, kwargs: dict | None = None) -> Verdict:
    """What real PyTorch would do with this call on the devices that the labels name.

    Parameters
    ----------
    func : torch._ops.OpOverload
    args, kwargs
        As ``__torch_dispatch__`` receives them.

    Returns
    -------
    Verdict
        The device of the result, and the mismatch if PyTorch would have raised.
    """
    plan, kwargs = plan_of(func), kwargs or {}
    common = _UNSEEN
    for kind, item in zip(plan.kinds, args, strict=False):
        if kind == _TENSOR:
            common = _common_label((item,), common)
        elif kind == _LIST:
            common = _common_label(item or (), common)
    common = _common_label(_flattened(kwargs.values()), common)
    if common is _APART:
        return _weighed(plan, func, args, kwargs)
    if (device := kwargs.get("device")) is not None:
        return _named(torch.device(device))
    if plan.always_weighed or plan.device_position is not None:
        return _weighed(plan, func, args, kwargs)
    return _unanimous(None if common is _UNSEEN else common)


def _common_label(items: Iterable, common: Any) -> Any:
    """The label that all tensors share, with those before; `_APART` where there is none."""
    for item in items:
        if isinstance(item, torch.Tensor):
            label = label_of(item)
            if common is _UNSEEN:
                common = label
            elif label != common:
                return _APART
    return common


def _flattened(items: Iterable) -> list:
    """Keyword arguments are numbers, tensors or (``out`` of a list op) lists of tensors."""
    return [part for item in items for part in (item if type(item) is list else (item,))]


@cache
def _unanimous(device: torch.device | None) -> Verdict:
    return Verdict(device=device)


@cache
def _named(device: torch.device) -> Verdict:
    return Verdict(device=device, named=True)


def _weighed(plan: OpPlan, func, args: tuple, kwargs: dict) -> Verdict:
    call = read_call(func, args, kwargs)
    apart = plan.always_weighed or len({item.device for item in call.seen}) > 1
    clash = plan.rule.weigh(call) if apart else None  # no label and a CPU label are the same
    if clash is not None:
        return Verdict(device=clash.target, mismatch=_mismatch(plan.rule, call, clash))
    named = call.values.get("device")
    if named is not None:
        return _named(torch.device(named))
    return _unanimous(plan.rule.home(call) if call.seen else None)


def _mismatch(rule: DeviceRule, call: Call, clash: Clash) -> Mismatch:
    return Mismatch(
        message=clash.message,
        rule=rule.name,
        operands=tuple(item.described() for item in call.seen),
        target=clash.target,
        moved=tuple(item.position for item in clash.odd),
        assumed=isinstance(rule, Assumed),
    )


# ---------------------------------------------------------------------------------- planning


@cache
def plan_of(func) -> OpPlan:
    """The plan of an op; made once."""
    positional = [item for item in func._schema.arguments if not item.kwarg_only]
    names = [item.name for item in positional]
    rule = device_rule_of(func)
    return OpPlan(
        kinds=tuple(_kind(str(item.type)) for item in positional),
        device_position=names.index("device") if "device" in names else None,
        always_weighed=isinstance(rule, OnCpu),
        rule=rule,
    )


def _kind(type_name: str) -> int:
    if "Tensor" not in type_name:
        return _NO_TENSOR
    return _LIST if "List" in type_name else _TENSOR


def device_rule_of(func) -> DeviceRule:
    """The rule of an op: the table, then what torchgen says, then the default.

    Parameters
    ----------
    func : torch._ops.OpOverload
    """
    namespace, _, name = func.name().partition("::")
    if namespace != "aten":
        return Assumed()
    base = family_of(name)
    if name in EXACT:
        return EXACT[name]
    if base in FAMILIES:
        return FAMILIES[base]
    if base.startswith("_foreach_"):
        return FOREACH
    facts = native_facts()
    if name in facts.checked:
        return checked_by_schema(facts.checked[name], func)
    if _num_inputs(func._schema.arguments) <= 1:
        return OUT_ONLY
    if base in facts.checked:  # a generated ``out`` form: runs `base`, then copies
        return checked_by_schema(facts.checked[base], func)
    return Assumed()


def has_no_rule(func) -> bool:
    """Whether an op of several operands, which could lie apart, falls to the default.

    Composite ops do not: their parts are judged.
    """
    several = _num_inputs(func._schema.arguments) > 1
    return several and isinstance(plan_of(func).rule, Assumed) and not decomposes(func)


def family_of(name: str) -> str:
    """``masked_fill_.Scalar`` -> ``masked_fill``: without overload, in-place and ``out``."""
    base = name.partition(".")[0]
    return base if base.endswith("__") else base.removesuffix("_")


def _num_inputs(arguments: Iterable) -> int:
    """Tensors that the op can receive besides its outputs; a list counts as two."""
    kinds = [_kind(str(item.type)) for item in arguments if not item.is_out]
    return sum(2 if kind == _LIST else 1 for kind in kinds if kind != _NO_TENSOR)


def decomposes(func) -> bool:
    """Whether the op is only a name for other ops, on every device.

    Such an op reaches a dispatch mode under ``torch.inference_mode`` alone; its parts
    (``func.decompose``) can be judged exactly, the op itself only by the default rule.
    """
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


# ``F.scaled_dot_product_attention`` chooses a kernel by the real device of its operands. In a
# virtual run those are CPU and meta tensors, so other ops appear than on a GPU, with other
# messages when the mask is elsewhere. A ``TorchFunctionMode`` sees the function whole and can ask
# here.

FUNCTIONS = {
    F.scaled_dot_product_attention: torch.ops.aten.scaled_dot_product_attention.default,
}


def judge_function(function, args: tuple, kwargs: dict | None = None) -> Verdict | None:
    """The verdict on a call of a Python function; None where its parts say it all.

    Parameters
    ----------
    function
        As ``__torch_function__`` receives it.
    args, kwargs
        The caller's: operands may come by position or by name.
    """
    func = FUNCTIONS.get(function)
    return judge_op(func, args, kwargs) if func is not None else None


@dataclass(frozen=True, kw_only=True)
class NativeFacts:
    """What torchgen says about the native functions of one torch release."""

    torch: str
    checked: dict[str, str]
    """``index_copy_`` -> ``index_copy_``: the wrapper's name after ``wrapper_CUDA_``."""
    unchecked: frozenset[str]
    composed: frozenset[str]


@cache
def native_facts() -> NativeFacts:
    """Read once."""
    text = resources.files(__package__).joinpath("native.json").read_text(encoding="utf-8")
    facts = json.loads(text)
    return NativeFacts(
        torch=facts["torch"],
        checked=facts["checked"],
        unchecked=frozenset(facts["unchecked"]),
        composed=frozenset(facts["composed"]),
    )


# The default covers ops of other packages, ops newer than the table, and composite ops that reach
# a dispatch mode whole (they do under ``torch.inference_mode``; elsewhere their parts are judged,
# see `decomposes`). Operands on one device, a CPU scalar excepted, is the rule of most ops; the
# mismatch records that it was assumed.


@dataclass(frozen=True, kw_only=True)
class Assumed:
    """One device, any number of CPU scalars excepted."""

    name: str = "assumed"
    source: str = "none: the op is not in the table"

    def weigh(self, call: Call) -> Clash | None:
        firm = [x for x in outputs_first(call.seen) if x.is_output or not x.is_cpu_scalar]
        common = gathering_place(firm)
        odd = next((item for item in firm if item.device != common), None)
        if odd is None:
            return None
        return clash_at(one_device(common, odd.device), common, firm)

    def home(self, call: Call) -> torch.device:
        return first_accelerator(outputs_first(call.seen))
