"""The module tree as two flat lists, for everything that looks at every module.

``torch.nn.Module.named_modules`` is a chain of nested generators, one a level: on a model of
170,000 modules and parameters it takes most of a second.  The lists here hold the same names in
the same order (a test says so) at a fraction of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from torch import nn

from devplan.core import joined

NamedModules: TypeAlias = list[tuple[str, nn.Module]]


def named_modules(model: nn.Module) -> NamedModules:
    """Every module once, parents before children, as ``model.named_modules()`` names them."""
    seen: set[int] = set()
    found: NamedModules = []

    def visit(name: str, module: nn.Module) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        found.append((name, module))
        prefix = f"{name}." if name else ""
        for child_name, child in module._modules.items():
            if child is not None:
                visit(prefix + child_name, child)

    visit("", model)
    return found


def all_modules(model: nn.Module) -> list[nn.Module]:
    """Every module once, in no order that matters, for questions that need no names."""
    found = {id(model): model}
    pending = [model]
    while pending:
        for child in pending.pop()._modules.values():
            if child is not None and id(child) not in found:
                found[id(child)] = child
                pending.append(child)
    return list(found.values())


def named_parameters(
    modules: Iterable[tuple[str, nn.Module]],
) -> Iterator[tuple[str, nn.Parameter]]:
    """Every parameter once (tied ones under their first name), as ``named_parameters()`` does."""
    seen: set[int] = set()
    for module_name, module in modules:
        for own_name, parameter in module._parameters.items():
            if parameter is None or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            yield joined(module_name, own_name), parameter
