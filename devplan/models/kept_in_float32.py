"""Parameters that diffusers keeps in float32 whatever dtype a model is loaded in.

``ModelMixin.from_pretrained`` casts a parameter to float32 where a part of its name is listed in
``_keep_in_fp32_modules`` (``load_model_dict_into_meta``, diffusers 0.42); ``.to(dtype)`` does not.
Code that adds such a bias to bfloat16 activations depends on it.
"""

from __future__ import annotations

import torch
from torch import nn


def keep_in_float32(model: nn.Module) -> None:
    """Give the parameters that the class keeps in float32 that dtype, in place."""
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ())
    if not kept:
        return
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and kept.intersection(name.split(".")):
            parameter.data = parameter.data.to(torch.float32)
