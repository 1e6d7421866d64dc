"""Modules that a virtual run may change, given back at its end as they were, whatever happens.

A run labels tensors, wraps ``forward`` methods and swaps buffers; a model's own code may register
other buffers (dynamic rotary embeddings), hooks (transformers' capturing of hidden states) or keep
states in attributes (Griffin), even those of layers that do not run themselves.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import nn

from devplan.sandbox import patched_here, shielded
from devplan.virtual.labels import unmark
from devplan.virtual.remembered import forget_results

_DICTS = (dict, OrderedDict)


class Loan:
    """A context; every module that was kept, or set an attribute inside, is restored at its end.

    Attributes
    ----------
    kept : dict
        Module -> its attributes as they were, and copies of those that are dicts: parameters,
        buffers, hooks.
    """

    def __init__(self) -> None:
        self.kept: dict[nn.Module, tuple[dict, dict[str, dict]]] = {}
        self._undo = contextlib.ExitStack()

    def keep(self, module: nn.Module) -> None:
        """Remember one module as it is now, unless it is remembered already."""
        if module not in self.kept:
            content = dict(vars(module))
            inner = {name: dict(each) for name, each in content.items() if type(each) in _DICTS}
            self.kept[module] = content, inner

    def __enter__(self) -> Loan:
        construct, set_attribute = nn.Module.__init__, nn.Module.__setattr__
        made: set[nn.Module] = set()
        """Modules made inside belong to the run: caches were modules up to transformers 4.48."""

        def noted_init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            made.add(module)
            construct(module, *args, **kwargs)

        def keep_and_set(module: nn.Module, name: str, value: Any) -> None:
            if module not in made:
                self.keep(module)
            set_attribute(module, name, value)

        self._undo.enter_context(patched_here(nn.Module, "__init__", noted_init))
        self._undo.enter_context(patched_here(nn.Module, "__setattr__", keep_and_set))
        return self

    def give_back(self) -> None:
        """Put every module that was kept back as it was."""
        forget_results(map(type, self.kept))
        for module, (attributes, inner) in self.kept.items():
            _refill(vars(module), attributes)
            for name, content in inner.items():
                _refill(attributes[name], content)

    def __exit__(self, *exception: object) -> None:
        with shielded():
            self._undo.close()
            self.give_back()
            for _, inner in self.kept.values():
                for name in ("_parameters", "_buffers"):
                    for tensor in inner.get(name, {}).values():
                        if tensor is not None:
                            unmark(tensor)


class Snapshot:
    """The attributes of a model's modules at one moment, to which they can be put back.

    Labels of tensors stay: it is taken, and put back, in the middle of a run.
    """

    def __init__(self, model: nn.Module) -> None:
        self._loan = Loan()
        for module in model.modules():
            self._loan.keep(module)

    def restore(self) -> None:
        """Put every module back."""
        self._loan.give_back()


def _refill(mapping: dict, content: dict) -> None:
    if list(mapping) != list(content):  # [Ctrl-C] strikes an empty mapping as seldom as can be
        mapping.clear()
    mapping.update(content)


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Give every module of a model back as it was."""
    with Loan() as loan:
        for module in model.modules():
            loan.keep(module)
        forget_results(map(type, loan.kept))
        yield
