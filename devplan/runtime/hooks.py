"""accelerate's hooks as they hang on modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from accelerate.hooks import AlignDevicesHook


def align_hooks(module: nn.Module) -> Iterator[AlignDevicesHook]:
    """The hooks that move a module's inputs, those inside a sequence of hooks among them."""
    hook = vars(module).get("_hf_hook")
    if hook is not None:  # nothing of accelerate's is imported for a model that has none of it
        yield from _aligning(hook)


def _aligning(hook: Any) -> Iterator[AlignDevicesHook]:
    from accelerate.hooks import AlignDevicesHook, SequentialHook

    if isinstance(hook, SequentialHook):
        for each in hook.hooks:
            yield from _aligning(each)
    elif isinstance(hook, AlignDevicesHook):
        yield hook
