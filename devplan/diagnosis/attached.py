"""Diagnosis that stays with a model: what ``devplan.load(..., diagnose=True)`` puts on it.

Only the entries of the whole model are wrapped, ``forward`` and ``generate``, and of autoencoders,
which pipelines call so, ``encode`` and ``decode``; as attributes of this one object: its class, its
modules and their ``forward`` are as they were.  A wrapper is one Python call with one ``try`` for
each call of the whole model.  It survives ``copy.deepcopy`` and pickling, and then belongs to the
copy.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from devplan.core import InputError, accepts
from devplan.diagnosis.placed import held_models, part_for
from devplan.diagnosis.watching import Diagnosis, holder_before_map
from devplan.virtual import ENTRIES as COMPONENT_ENTRIES

ENTRIES = (*COMPONENT_ENTRIES, "generate")


class AttachedModel:
    """An entry of a model that explains what goes wrong behind it.

    Attributes
    ----------
    instance_own : callable or None
        What the model had as an attribute of its own under this name: accelerate's hooked forward.
        None: the method of its class.
    """

    def __init__(self, model: Any, name: str, map: Any) -> None:
        self._model = weakref.ref(model)  # [weak] a model that is dropped is gone at once
        self.name = name
        self.map = map
        self.instance_own: Callable | None = vars(model).get(name)

    @property
    def model(self) -> Any:
        return self._model()

    @property
    def wrapped(self) -> Callable:
        """What runs: the model's own entry."""
        return self.instance_own or getattr(type(self.model), self.name).__get__(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_model": self.model}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _model=weakref.ref(state["_model"]))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.wrapped(*args, **kwargs)
        except Exception as error:
            Diagnosis(self.model, self.map).explain(error)
            raise

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the entry: ``generate`` reads it to know what ``forward`` takes."""
        return inspect.signature(self.wrapped)

    def __repr__(self) -> str:
        return f"<diagnosed {self.name} of {type(self.model).__name__}>"


@accepts(model=holder_before_map("devplan.attach_diagnosis(MODEL, MAP)"))
def attach_diagnosis(model: Any, map: Any = None) -> None:
    """Let a model explain its own failures from now on; a second call replaces the map.

    Parameters
    ----------
    model
        A loaded model, with its hooks if it has any, or an object that holds models as attributes
        (a pipeline): each of them is wrapped.
    map
        As in `devplan.diagnose`; lines of a file are named in the report.

    Raises
    ------
    InputError
        When the map is a path and there is no such file, or the object holds no model.
    """
    Diagnosis(model, map)
    held = _models(model)
    if not held:
        raise InputError(
            f"{type(model).__name__} is not a model and holds none; give the model that is called"
        )
    for component, each in held.items():
        _attach(each, part_for(map, component))


def _attach(model: nn.Module, map: Any) -> None:
    _detach(model)
    for name in ENTRIES:
        if callable(getattr(type(model), name, None)):
            setattr(model, name, AttachedModel(model, name, map))


@accepts(model=holder_before_map("devplan.detach_diagnosis(MODEL)"))
def detach_diagnosis(model: Any) -> None:
    """Remove what `attach_diagnosis` put on a model; nothing happens where there is nothing."""
    for each in _models(model).values():
        _detach(each)


def _models(model: Any) -> dict[str, nn.Module]:
    return {"": model} if isinstance(model, nn.Module) else held_models(model)


def _detach(model: nn.Module) -> None:
    for name in ENTRIES:
        entry = vars(model).get(name)
        if not isinstance(entry, AttachedModel):
            continue
        if entry.instance_own is None:
            delattr(model, name)
        else:
            setattr(model, name, entry.instance_own)
