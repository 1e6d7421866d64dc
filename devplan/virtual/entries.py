"""Where a model is entered: by its own ``forward``, or by that of one of its parts.

Some classes only have a ``generate`` that runs one part after the other (a thinker, a talker, a
vocoder) and no ``forward`` of their own.  Their *entered part* is the first that has one.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def has_forward(model: nn.Module) -> bool:
    """Whether the class has a ``forward`` of its own: some only ``generate`` (Qwen2.5-Omni)."""
    return type(model).forward is not nn.Module.forward


def parts_with_forward(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The parts of a model without ``forward`` that have one; none where it has its own."""
    if not has_forward(model):
        yield from ((name, part) for name, part in model.named_children() if has_forward(part))


def entered_part(model: nn.Module) -> tuple[str, nn.Module] | None:
    """For a model without ``forward``: its first part with one, which ``generate`` begins with."""
    parts = ((name, part) for name, part in parts_with_forward(model) if hasattr(part, "config"))
    return next(parts, None)
