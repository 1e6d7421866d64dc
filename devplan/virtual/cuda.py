"""``torch.cuda`` as the virtual machine answers it.

Model code chooses its kernels by asking ``torch.cuda`` (grouped matrix products in MoE layers ask
for the compute capability).  While `answering` is active these questions are answered from the
virtual cards, and the real driver is never asked, whether there is one or not.  Other threads of
the process hear what they always hear.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from devplan.core import GIB
from devplan.sandbox import patched_here


@dataclass(frozen=True, kw_only=True)
class VirtualCard:
    """What a GPU that is not there says of itself."""

    name: str = "virtual GPU"
    capability: tuple[int, int] = (8, 0)
    """Compute capability; 8.0 is the first with bfloat16 matrix products."""
    total_bytes: int = 80 * GIB


@contextlib.contextmanager
def answering(cards: tuple[VirtualCard, ...]) -> Iterator[None]:
    """Let ``torch.cuda`` speak for `cards` inside the block."""

    def card(device: Any = None) -> VirtualCard:
        return cards[_index(device)]

    def properties(device: Any = None) -> SimpleNamespace:
        chosen = card(device)
        return SimpleNamespace(
            name=chosen.name,
            major=chosen.capability[0],
            minor=chosen.capability[1],
            total_memory=chosen.total_bytes,
            multi_processor_count=108,
            warp_size=32,
        )

    answers = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: len(cards),
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "synchronize": lambda device=None: None,
        "empty_cache": lambda: None,
        "is_bf16_supported": lambda including_emulation=True: card().capability >= (8, 0),
        "get_device_capability": lambda device=None: card(device).capability,
        "get_device_name": lambda device=None: card(device).name,
        "get_device_properties": properties,
        "mem_get_info": lambda device=None: (card(device).total_bytes, card(device).total_bytes),
        "memory_allocated": lambda device=None: 0,
        "memory_reserved": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
    }
    with contextlib.ExitStack() as undo:
        for name, answer in answers.items():
            if hasattr(torch.cuda, name):
                undo.enter_context(patched_here(torch.cuda, name, answer))
        # Compiled code is run as it is written: what it computes, and where, is the same.
        undo.enter_context(patched_here(torch, "compile", _as_written))
        yield


def _as_written(model: Any = None, **options: Any) -> Any:
    """``torch.compile``, called or as a decorator with options."""
    return model if model is not None else lambda function: function


def _index(device: Any) -> int:
    if device is None:
        return 0
    return device if isinstance(device, int) else torch.device(device).index or 0
