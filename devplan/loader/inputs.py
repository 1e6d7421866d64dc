"""Inputs to where they enter."""

from __future__ import annotations

from typing import Any

from torch import nn

from devplan.checker import unwrapped
from devplan.core import to_hf_device, wrong
from devplan.loader.hooks import device_text, main_device
from devplan.loader.parts import is_pipeline


def to_main(model: nn.Module | Any, inputs: Any) -> Any:
    """Move nested inputs to the device where they enter a model.

    Parameters
    ----------
    model
        A model that `load` or `apply` gave, or any model with accelerate's hooks; of a model
        without hooks, the device of its first parameter.  Of a diffusers pipeline the device where
        it makes its latents, to which its own code moves what it is given.
    inputs
        Tensors in lists, tuples and mappings, however nested, or what a tokenizer or processor
        gave.  All else stays as it is; dtypes are not touched.

    Returns
    -------
    The same structure, of the same types.

    Examples
    --------
    >>> inputs = devplan.to_main(model, processor(images=image, text=text, return_tensors="pt"))
    >>> model.generate(**inputs)
    """
    from accelerate.utils import send_to_device

    if is_pipeline(model):
        device = device_text(model._execution_device)
    elif isinstance(model, nn.Module):
        device = main_device(unwrapped(model))
    else:
        raise wrong("model", model, "a loaded model or a diffusers pipeline, before the inputs")
    return send_to_device(inputs, to_hf_device(device))
