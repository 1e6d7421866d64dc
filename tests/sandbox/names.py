"""Everything that a run replaces or switches, to be compared before and after."""

from __future__ import annotations

import gc
import inspect
import logging
import signal
import sys
import threading
import warnings
from typing import Any

import accelerate.utils.modeling as accelerate_modeling
import torch
from accelerate import big_modeling
from torch import nn
from torch.distributions import Distribution
from torch.overrides import _get_current_function_mode_stack
from torch.utils import _device, checkpoint
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from devplan.sandbox import foreign, holding, limits


def process_now() -> dict[str, Any]:
    """Name -> what it is now; whatever a run changes for its time is among them."""
    return {
        **{f"torch.cuda.{name}": value for name, value in vars(torch.cuda).items()},
        **{f"torch.nn.init.{name}": value for name, value in vars(nn.init).items()},
        "torch.compile": torch.compile,
        "Module.__init__": vars(nn.Module)["__init__"],
        "Module.__setattr__": vars(nn.Module)["__setattr__"],
        "backward": torch.autograd._engine_run_backward,
        "what a checkpoint compares": vars(checkpoint)["_allowed_determinism_checks_to_fns"],
        "groups by device": torch._C._group_tensors_by_device_and_dtype,
        "Parameter.__new__": vars(nn.Parameter)["__new__"],
        "Distribution._validate_args": vars(Distribution)["_validate_args"],
        "accelerate's torch": accelerate_modeling.torch,
        "accelerate's question to the driver": big_modeling.check_cuda_p2p_ib_support,
        "logging.disable": logging.root.manager.disable,
        "warnings.filters": list(warnings.filters),
        "warnings.showwarning": warnings.showwarning,
        "level of transformers": logging.getLogger("transformers").level,
        "frozen garbage": gc.get_freeze_count(),
        "threads of torch": torch.get_num_threads(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": _get_current_function_mode_stack(),
        "dispatch modes": _get_current_dispatch_mode_stack(),
        "torch functions": torch._C._is_torch_function_enabled(),
        "default device": _device.CURRENT_DEVICE,
        "default dtype": torch.get_default_dtype(),
        "SIGURG": signal.getsignal(signal.SIGURG),
        "SIGALRM": signal.getsignal(signal.SIGALRM),
        "timer": signal.getitimer(signal.ITIMER_REAL),
        "trace": sys.gettrace(),
        "turns of threads": sys.getswitchinterval(),
        "our threads": [t for t in threading.enumerate() if t.name == "devplan-time-limit"],
        "our lock": holding._lock._is_owned(),
        "our patches": list(holding._active),
        "our limits": list(limits._limits),
        "shields": {thread: n for thread, n in foreign._shields.items() if n},
        "foreign code": {thread: n for thread, n in foreign._depths.items() if n},
    }


def changed(before: dict[str, Any]) -> list[str]:
    """Names that are otherwise than they were."""
    now = process_now()
    assert inspect.isfunction(torch.compile)
    return [name for name in {**before, **now} if now.get(name) != before.get(name)]
