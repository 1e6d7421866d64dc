"""Asking the model: a virtual run that stops where the text layers begin.

A probe says whether the model's code takes an image, a video or a sound in the form offered, and
how many rows of features it makes of it: that number of placeholders the text must hold.  Rows are
read off what the model's own ``get_image_features`` (or ``get_audio_features``, ...) returns; where
a model has no such method, off the last module outside the text model that gave vectors as wide
as the text's.
"""

from __future__ import annotations

import contextlib
import os
import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.virtual.tracing import run_traced

_OURS = re.compile(r"[/\\](?:devplan|torch)[/\\]")
_FEATURES = re.compile(r"^(?:get|pack)_(?!text)\w*features$")


class _Reached(Exception):
    """The text layers began: everything in front of them has run."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe saw."""

    rows: int | None
    """Rows of features, for all items of the batch together; None: none were made."""
    error: str | None
    """What the model's own code raised, with its place; None: nothing."""

    @property
    def accepted(self) -> bool:
        return self.error is None or self.rows is not None


def probe(model: nn.Module, inputs: Mapping[str, Any]) -> Probed:
    """Run ``model(**inputs)`` virtually up to its first text layer."""
    embedding = text_embedding(model)
    width = embedding.weight.shape[-1] if embedding is not None else 0
    seen: list[int] = []
    with contextlib.ExitStack() as undo:
        for module in model.modules():
            _watch_methods(module, width, seen, undo)
        if embedding is not None:
            _watch_text(model, embedding, width, seen, undo)
        try:
            run_traced(model, (), inputs)
        except _Reached:
            pass
        except Exception as error:  # whatever the model's own code raises is an answer
            return Probed(rows=seen[-1] if seen else None, error=describe(error))
    return Probed(rows=seen[-1] if seen else None, error=None)


def text_embedding(model: nn.Module) -> nn.Module | None:
    """The table of the text's tokens, where the model has one and says so."""
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError, TypeError):
        return None
    return found if isinstance(getattr(found, "weight", None), torch.Tensor) else None


def describe(error: BaseException) -> str:
    """One line: type, message and the innermost place that is not devplan's or torch's."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _OURS.search(frame.filename)]
    place = f" at {os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{place}"


# --------------------------------------------------------------------------------- watching


def _watch_methods(module: nn.Module, width: int, seen: list[int], undo) -> None:
    for name in dir(type(module)):
        if _FEATURES.match(name) and callable(getattr(type(module), name)):
            undo.enter_context(_wrapped(module, name, width, seen))


@contextlib.contextmanager
def _wrapped(module: nn.Module, name: str, width: int, seen: list[int]) -> Iterator[None]:
    original = getattr(module, name)

    def watched(*args, **kwargs):
        result = original(*args, **kwargs)
        if rows := num_rows(result, width):
            seen.append(rows)
        return result

    vars(module)[name] = watched
    try:
        yield
    finally:
        vars(module).pop(name, None)


def _watch_text(model: nn.Module, embedding: nn.Module, width: int, seen: list[int], undo) -> None:
    stack, inside = _text_stack(model, embedding)
    if stack is None:
        return

    def stop(*_):
        raise _Reached

    handle = stack[0].register_forward_pre_hook(stop)
    undo.callback(handle.remove)
    if any(_FEATURES.match(name) for module in model.modules() for name in dir(type(module))):
        return
    for name, module in model.named_modules():
        outside = name and not inside.startswith(name) and not name.startswith(inside)
        if outside and name.count(".") <= 1 and not isinstance(module, nn.ModuleList):
            handle = module.register_forward_hook(
                lambda _module, _args, result: seen.extend(filter(None, [num_rows(result, width)]))
            )
            undo.callback(handle.remove)


def _text_stack(model: nn.Module, embedding: nn.Module) -> tuple[nn.ModuleList | None, str]:
    """The layers behind the embedding: the first list in the smallest module around both."""
    names = {id(module): name for name, module in model.named_modules()}
    name = names.get(id(embedding), "")
    while name:
        name = name.rpartition(".")[0]
        owner = model.get_submodule(name)
        for module in owner.modules():
            if isinstance(module, nn.ModuleList) and len(module) and list(module[0].children()):
                return module, name
    return None, ""


# ------------------------------------------------------------------------------------- rows


def num_rows(result: Any, width: int) -> int:
    """Vectors of the text's width in what a feature extractor returned; 0 where there are none."""
    for name in ("pooler_output", "last_hidden_state"):
        part = getattr(result, name, None)
        if part is not None and (rows := num_rows(part, width)):
            return rows
    if isinstance(result, torch.Tensor):
        return result.numel() // width if width and _is_vectors(result, width) else 0
    if isinstance(result, (list, tuple)) and result:
        # Features with a list beside them: Qwen3-VL's deep-stack features are no rows of their own.
        if any(isinstance(item, (list, tuple)) for item in result):
            return num_rows(result[0], width)
        return sum(num_rows(item, width) for item in result)
    return 0


def _is_vectors(tensor: torch.Tensor, width: int) -> bool:
    return tensor.dim() > 1 and tensor.shape[-1] == width
