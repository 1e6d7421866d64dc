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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from devplan.core import named_line
from devplan.inputs.facts import Facts, has_weights
from devplan.virtual import Dispatched, ForwardCall, Observer, OneCard, Run

_OURS = tuple(
    os.path.join(folder, "")
    for folder in (os.path.dirname(os.path.dirname(__file__)), os.path.dirname(torch.__file__))
)
"""Folders of devplan and of torch; an environment may lie in a folder of such a name."""
_SAID = re.compile(r"tokens: (\d+), features:? (\d+)")
"""How transformers refuses a text with another number of placeholders than there are features."""
_MOST_OPS = 150_000
"""About ten seconds: a tower that takes more is not asked again."""
_FEATURES = re.compile(r"^(?:get|pack)_(?!text)\w*features$")


class _Reached(Exception):
    """The text layers began: everything in front of them has run."""


@dataclass(frozen=True, kw_only=True)
class Probed:
    """What a probe saw."""

    rows: int | None
    """Rows of features, for all items of the batch together; None: none were made."""
    said: int | None
    """The same in the words of a refusal."""
    error: str | None
    """What the model's own code raised, with its place; None: nothing."""

    num_ops: int
    """Ops that ran, to the end or to the error."""
    tower_ran: bool
    """Whether a module beside the text model was called."""

    @property
    def accepted(self) -> bool:
        return self.rows is not None or (self.error is None and self.tower_ran)


def probe(facts: Facts, inputs: Mapping[str, Any]) -> Probed:
    """Ask the model: up to its first text layer, and to the end where that tells nothing."""
    with asked_on_one_card(facts) as card:
        answer = _probe(card.placed, inputs, stops_at_text=True)
        if answer.error is None and not answer.accepted:  # the text came first: CLIP-like models
            answer = _probe(card.placed, inputs, stops_at_text=False)
    return answer


@contextlib.contextmanager
def asked_on_one_card(facts: Facts) -> Iterator[OneCard]:
    """Let all probes inside, the first of which places the model, ask it in one place."""
    if facts.card is not None:
        yield facts.card
        return
    with OneCard(facts.model, facts.config, facts.sites) as facts.card:
        try:
            yield facts.card
        finally:
            facts.card = None


def _probe(placed: Dispatched, inputs: Mapping[str, Any], *, stops_at_text: bool) -> Probed:
    watch = _Watch(stops_at_text=stops_at_text)
    error: str | None = None
    try:
        placed.follow(inputs, call=ForwardCall(), observers=(watch,), limit_ops=_MOST_OPS)
    except _Reached:
        pass
    except Exception as raised:  # whatever the model's own code raises is an answer
        error = describe(raised)
    said = _rows_said(error, watch.width)
    return Probed(
        rows=(watch.named or watch.others or [said])[-1],
        said=said,
        error=error,
        num_ops=watch.num_ops,
        tower_ran=not watch.has_text or bool(watch.called),
    )


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
    own = [frame for frame in frames if not frame.filename.startswith(_OURS)]
    place = f" at {os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""
    return f"{named_line(error)}{place}"


# --------------------------------------------------------------------------------- watching


class _Watch(Observer):
    """Watches what runs beside the text, with hooks and wrappers that the run takes off again."""

    def __init__(self, *, stops_at_text: bool) -> None:
        self.stops_at_text = stops_at_text
        self.has_text = False
        self.width = 0
        """Of the text's vectors."""
        self.named: list[int] = []
        """Rows that methods gave whose name says that they make features."""
        self.others: list[int] = []
        """Rows that modules beside the text gave."""
        self.called: list[nn.Module] = []
        """Modules beside the text that ran."""
        self.num_ops = 0

    def begin(self, run: Run) -> None:
        super().begin(run)
        model = run.split.model
        embedding = text_embedding(model)
        if embedding is not None:
            self.has_text, self.width = True, embedding.weight.shape[-1]
        for module in model.modules():
            self._watch_methods(module)
        if embedding is not None:
            self._watch_beside_text(model, embedding)
            stack = _text_stack(model, embedding)
            if stack is not None and self.stops_at_text:
                stack[0].register_forward_pre_hook(_stop)

    def end(self, is_complete: bool) -> None:
        self.num_ops = self.run.execution.num_ops

    def _watch_methods(self, module: nn.Module) -> None:
        for name in dir(type(module)):
            if _FEATURES.match(name) and callable(getattr(type(module), name)):
                vars(module)[name] = self._wrapped(getattr(module, name))

    def _wrapped(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if rows := num_rows(result, self.width):
                self.named.append(rows)
            return result

        return watched

    def _watch_beside_text(self, model: nn.Module, embedding: nn.Module) -> None:
        """Note which modules beside the text model run, and what they make of its width."""
        text = _around_text(model, embedding)
        for name, module in model.named_modules():
            related = name == text or text.startswith(f"{name}.") or name.startswith(f"{text}.")
            if (
                name
                and not related
                and module is not embedding
                and name.count(".") <= 2
                and has_weights(module)
            ):
                module.register_forward_hook(self._note)

    def _note(self, module: nn.Module, _args: Any, result: Any) -> None:
        self.called.append(module)
        self.others.extend(filter(None, [num_rows(result, self.width)]))


def _stop(*_: Any) -> None:
    raise _Reached


def _around_text(model: nn.Module, embedding: nn.Module) -> str:
    """Name of the smallest module that holds the embedding and a stack of layers."""
    name = next((name for name, module in model.named_modules() if module is embedding), "")
    while name:
        name = name.rpartition(".")[0]
        if name and _first_stack(model.get_submodule(name)) is not None:
            return name
    return ""


def _text_stack(model: nn.Module, embedding: nn.Module) -> nn.ModuleList | None:
    name = _around_text(model, embedding)
    return _first_stack(model.get_submodule(name)) if name else None


def _first_stack(owner: nn.Module) -> nn.ModuleList | None:
    for module in owner.modules():
        if isinstance(module, nn.ModuleList) and len(module) and list(module[0].children()):
            return module
    return None


# ------------------------------------------------------------------------------------- rows


def _rows_said(error: str | None, width: int) -> int | None:
    """Rows of features by the model's own words; some count the numbers in them."""
    said = _SAID.search(error or "")
    if said is None:
        return None
    num = int(said[2])
    return num // width if width and num % width == 0 else num


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
