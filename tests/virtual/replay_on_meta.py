"""What PyTorch's C++ says to operands on two devices, on a machine without a GPU.

To TensorIterator a meta tensor is one more accelerator: the same code compares its device with
that of a CPU tensor, with the same exceptions and words as on CUDA.  Python registers shape
functions over most of those kernels, which compare less; this program takes them out of its own
process (hence a program), runs every elementwise op with one operand on the CPU and the others on
meta, and prints what was said as JSON: op -> argument -> shape of the odd operand -> text or None.
"""

from __future__ import annotations

import json
import warnings

import torch
import torch._meta_registrations as shape_functions

from devplan.virtual.rules.iterator import Elementwise
from devplan.virtual.rules.plan import device_rule_of, native_facts

SHAPES = {"scalar": (), "full": (2, 3)}
UNANSWERED = "unanswered"
"""The op has no C++ meta kernel, or refused the call for another reason."""


def overload(name: str):
    """``add.Tensor`` -> the op; None where this torch has none."""
    packet, _, kind = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), kind or "default", None)


def elementwise_ops() -> list:
    """Every op that the table calls elementwise and that takes tensors and numbers alone."""
    found = []
    for name in sorted(native_facts().unchecked | native_facts().composed):
        func = overload(name)
        if func is None or not isinstance(device_rule_of(func), Elementwise):
            continue
        types = [str(item.type) for item in needed(func)]
        if set(types) <= {"Tensor", "number"} and types.count("Tensor") > 1:
            found.append(func)
    return found


def needed(func) -> list:
    """The arguments without default."""
    return [item for item in func._schema.arguments if not item.has_default_value()]


def tensor_arguments(func) -> list[str]:
    return [item.name for item in needed(func) if str(item.type) == "Tensor"]


def ordinary(func, shape: tuple[int, ...]) -> torch.Tensor:
    """An operand of a dtype that the op takes."""
    integers = any(word in str(func) for word in ("bitwise", "shift__"))
    return torch.ones(shape, dtype=torch.int64 if integers else torch.float32)


def said(func, odd: str, shape: tuple[int, ...]) -> str | None:
    """The device error of the real op with the argument `odd` on the CPU."""
    values = {item.name: 1.0 for item in needed(func)}
    for name in tensor_arguments(func):
        cpu = ordinary(func, shape if name == odd else SHAPES["full"])
        values[name] = cpu if name == odd else cpu.to("meta")
    try:
        func(**values)
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).partition("\n")[0]
        known = text.startswith(("Expected all tensors", "Trying to pass too many"))
        return text if known else UNANSWERED
    return None


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    ops = elementwise_ops()
    shape_functions._meta_lib_dont_use_me_use_register_meta._destroy()
    answers = {
        str(func): {
            odd: {label: said(func, odd, shape) for label, shape in SHAPES.items()}
            for odd in tensor_arguments(func)
        }
        for func in ops
    }
    index = torch.tensor([0])
    try:
        torch.ones(2, 3)[index.to("meta")]
    except RuntimeError as error:
        answers["cpu[meta]"] = str(error).partition("\n")[0]
    answers["meta[cpu]"] = str(torch.ones(2, 3, device="meta")[index].device)
    print(json.dumps(answers))
