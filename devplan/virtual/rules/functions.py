"""Python functions that can be judged before they are taken apart.

``F.scaled_dot_product_attention`` chooses a kernel by the real device of its operands.  On a
virtual run those are CPU and meta tensors, so other parts appear than on a GPU, with other words
when the mask lies elsewhere.  A ``TorchFunctionMode`` sees the function whole and can ask here.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from devplan.virtual.rules.plan import judge
from devplan.virtual.rules.verdict import Verdict

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
    return judge(func, args, kwargs) if func is not None else None
