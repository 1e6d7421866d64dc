"""What ``from_pretrained`` does with the dtypes of a model.

``from_pretrained`` casts every floating-point parameter to the one dtype of the model, whatever
dtype the checkpoint stores, with two kinds of exception:

* parameters that the class keeps in float32: ``_keep_in_fp32_modules`` when the model is loaded
  in float16, ``_keep_in_fp32_modules_strict`` in float16 and bfloat16
  (``PreTrainedModel._get_dtype_plan`` of transformers 5.23: the patterns are searched anywhere in
  the parameter's name);
* parameters that the class itself creates in another dtype: they keep it (step 3 of
  ``convert_and_load_state_dict_in_model`` in ``core_model_loading.py``), integers among them.

A skeleton that was built in its compute dtype shows the second kind by itself.  Buffers lie as the
class builds them and are no matter of this module.

Limits: before transformers 5 the names in ``_keep_in_fp32_modules`` had to be whole components of
the parameter's name, and only float16 counted; that is what is applied to a model without
``_get_dtype_plan``.
"""

from __future__ import annotations

import re

import torch
from torch import nn

from devplan.profile.tree import NamedModules, all_modules, named_modules, named_parameters


def dtype_exceptions(
    model: nn.Module, dtype: torch.dtype, *, modules: NamedModules | None = None
) -> dict[str, torch.dtype]:
    """Parameters of a skeleton that ``from_pretrained`` leaves in another dtype than the model's.

    Parameters
    ----------
    model
        Skeleton on the meta device, built in `dtype` and not quantized.
    dtype
        Dtype of the model.
    modules
        ``devplan.profile.tree.named_modules(model)`` where the caller has it already.

    Returns
    -------
    dict
        Parameter name -> dtype, for the exceptions only.
    """
    kept = _kept_in_float32(model, dtype)
    if kept is None and _all_have(model, dtype):  # the common case, without a single name
        return {}
    modules = modules or named_modules(model)
    found: dict[str, torch.dtype] = {}
    for name, parameter in named_parameters(modules):
        own = parameter.dtype
        if kept is not None and own.is_floating_point and kept.search(name):
            own = torch.float32
        if own is not dtype:
            found[name] = own
    return found


def _all_have(model: nn.Module, dtype: torch.dtype) -> bool:
    """Whether every parameter has the dtype."""
    for module in all_modules(model):
        for parameter in module._parameters.values():
            if parameter is not None and parameter.dtype is not dtype:
                return False
    return True


def _kept_in_float32(model: nn.Module, dtype: torch.dtype) -> re.Pattern[str] | None:
    """One pattern for the names that the class keeps in float32, or None where there are none."""
    plan = getattr(model, "_get_dtype_plan", None)
    if plan is not None:
        patterns = [pattern.replace("*", ".*") for pattern in plan(dtype)]
    elif dtype == torch.float16:
        kept = getattr(model, "_keep_in_fp32_modules", None) or ()
        patterns = [rf"(?:^|\.){re.escape(name)}(?:\.|$)" for name in kept]
    else:
        patterns = []
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
