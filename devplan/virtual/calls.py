"""How a model is run: ``forward``, ``generate`` with arguments, or a function of the user's.

A phase is what a run is divided into for its findings.  Each call of the whole model's ``forward``
is one: ``prefill`` and ``decode 1``, ``decode 2``, ... of ``generate``, ``forward`` otherwise.
A pipeline's phases are its components.  A model without a ``forward`` of its own, whose
``generate`` runs one part after the other, has those of its parts (`parts_with_forward`).
Code that only calls methods of the model (a codec's ``decode``) has a single phase, named after the
call.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, repeat
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from devplan.io import users_code
from devplan.models import PipelineModule

DECODE_STEPS = 2
"""Steps with the cache after the prefill: the first grows what prefill made, the second what a
step made."""
GREEDY = MappingProxyType(
    {
        "max_new_tokens": DECODE_STEPS + 1,
        "do_sample": False,
    }
)
"""How ``generate`` is called; the user's own arguments win."""


@dataclass(frozen=True, kw_only=True)
class ForwardCall:
    """One forward."""

    name: str = "forward"

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """Of the example inputs, those that the call is given."""
        return inputs

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return model(**inputs)

    def phases(self) -> Iterator[str]:
        return iter(lambda: self.name, None)


@dataclass(frozen=True, kw_only=True)
class GenerateCall:
    """``generate`` with the cache, greedily unless asked otherwise.

    Parts that the model's code lets generate by themselves stop as early as the model would.  One
    that only has such parts is told nothing beside: it hands arguments on to all of them.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of ``generate``."""
    name: str = "generate"

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return for_generate(model, inputs)

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        usual = GREEDY if has_forward(model) else {}
        with parts_stop_after(model, GREEDY["max_new_tokens"]):
            return model.generate(**{**usual, **inputs, **self.arguments})

    def phases(self) -> Iterator[str]:
        yield "prefill"
        for number in count(1):
            yield f"decode {number}"


@dataclass(frozen=True, kw_only=True)
class PartCall:
    """A part of the model is run alone, as it would be used by itself."""

    part: str
    call: ForwardCall | GenerateCall

    @property
    def name(self) -> str:
        return f"{self.part} {self.call.name}"

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.call.takes(model.get_submodule(self.part), inputs)

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return self.call.run(model.get_submodule(self.part), inputs)

    def phases(self) -> Iterator[str]:
        return self.call.phases()


@dataclass(frozen=True, kw_only=True)
class PipelineCall:
    """One run of a diffusers pipeline; its phases are its components, in the order of their use."""

    name: str = "pipeline"

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return inputs

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        return model(**inputs)


@dataclass(frozen=True, kw_only=True)
class UserCall:
    """A function of the user's that is handed the model and its inputs.

    It gets gradients as it would of a loaded model, unless it asks for none.
    """

    function: Callable[[nn.Module, Mapping[str, Any]], Any]

    @property
    def name(self) -> str:
        return self.function.__name__

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return for_generate(model, inputs)

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        with users_code(), torch.enable_grad():
            return self.function(model, inputs)

    def phases(self) -> Iterator[str]:
        for number in count(1):
            yield f"forward {number}"


def for_generate(model: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs without what ``generate`` decides for itself."""
    own = {"use_cache", "logits_to_keep", "labels"}
    # [codebooks] what a decoder of sound begins with has a shape of its own, which generate knows.
    config = getattr(model, "generation_config", None)
    starts = ("decoder_start_token_id", "bos_token_id")
    if any(getattr(config, name, None) is not None for name in starts):
        own |= {"decoder_input_ids", "decoder_attention_mask"}
    return {name: value for name, value in inputs.items() if name not in own}


def steps_asked_for(model: nn.Module, call: ModelCall) -> tuple[str, ...]:
    """The phases that a call of transformers' own ``generate`` has to have; none of other calls."""
    from transformers import GenerationMixin

    own = getattr(type(model), "generate", None) is GenerationMixin.generate
    if not (own and has_forward(model) and isinstance(call, GenerateCall)):
        return ()
    tokens = call.arguments.get("max_new_tokens", GREEDY["max_new_tokens"])
    if "max_length" in call.arguments or type(tokens) is not int:
        return ()
    decodes = min(tokens, GREEDY["max_new_tokens"]) - 1
    return ("prefill", *(f"decode {number}" for number in range(1, decodes + 1)))


def stop_tokens(model: nn.Module, arguments: Mapping[str, Any]) -> frozenset[int]:
    """Tokens that end ``generate``: by its arguments, or by what the model and its parts say."""
    configs = [vars(module).get("generation_config") for module in model.modules()]
    said = [arguments.get("eos_token_id"), *(_eos_of(config) for config in configs)]
    flat = [token for each in said for token in (each if isinstance(each, list) else [each])]
    return frozenset(token for token in flat if type(token) is int)


def _eos_of(config: Any) -> Any:
    return getattr(config, "eos_token_id", None)


ModelCall = ForwardCall | GenerateCall | PartCall | PipelineCall | UserCall


def usual_call(model: nn.Module, generation: Mapping[str, Any] | None = None) -> ModelCall:
    """How a model is used: a pipeline is run, what can generate generates, else one forward."""
    if isinstance(model, PipelineModule):
        return PipelineCall()
    return GenerateCall(arguments=generation or {}) if can_generate(model) else ForwardCall()


def can_generate(model: nn.Module) -> bool:
    """Whether ``generate`` is how the model is used."""
    return hasattr(model, "generate") and getattr(model, "can_generate", lambda: True)()


# A class that holds several generating models (thinker and talker, semantic and acoustic tokens)
# asks each of them for hundreds or thousands of tokens. A run needs the prefill and two steps of
# each.

_LIMIT = "max_new_tokens"


@contextlib.contextmanager
def parts_stop_after(model: nn.Module, tokens: int) -> Iterator[None]:
    """Let no part of the model generate more than so many tokens; the model itself is free."""
    parts = [
        part
        for part in model.modules()
        if part is not model and callable(getattr(type(part), "generate", None))
    ]
    for part in parts:
        vars(part)["generate"] = _stopping(part.generate, tokens)
    try:
        yield
    finally:
        for part in parts:
            del vars(part)["generate"]


def _stopping(original: Any, tokens: int) -> Any:
    @functools.wraps(original)
    def generate(*args: Any, **kwargs: Any) -> Any:
        kwargs = {name: _lowered(name, value, tokens) for name, value in kwargs.items()}
        return original(*args, **kwargs)

    return generate


def _lowered(name: str, value: Any, tokens: int) -> Any:
    """An argument of ``generate`` with a limit that is no higher."""
    if name == _LIMIT and isinstance(value, int):
        return min(value, tokens)
    limit = getattr(value, _LIMIT, None)  # of a generation configuration, whatever it is called
    if isinstance(limit, int) and limit > tokens:
        value = copy.copy(value)
        setattr(value, _LIMIT, tokens)
    return value


# Some classes only have a ``generate`` that runs one part after the other (a thinker, a talker, a
# vocoder) and no ``forward`` of their own. Their *entered part* is the first that has one.


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


def other_ways_in(model: nn.Module, call: ModelCall) -> Iterator[ModelCall]:
    """What is run where ``generate``, with nothing asked for by the user, refuses its inputs."""
    if not isinstance(call, GenerateCall) or call.arguments:
        return
    if has_forward(model):
        yield ForwardCall()
    elif (entered := entered_part(model)) is not None:
        name, part = entered
        if can_generate(part):
            yield PartCall(part=name, call=GenerateCall())
        yield PartCall(part=name, call=ForwardCall())


ENTRIES = ("forward", "encode", "decode")
"""Methods by which a pipeline enters a component; autoencoders have the last two."""


def follow_calls(
    model: nn.Module,
    names: Iterator[str],
    begin: Callable[[str], None],
    end: Callable[[str, Any], None],
) -> None:
    """Begin a phase at each call of the whole model, and end it with what the call gave.

    Of a model without a ``forward``, each call of a part is one; `end` is told the part's name.
    """
    if has_forward(model):
        _follow(model, "", names, begin, end)
    for name, part in parts_with_forward(model):
        _follow(part, name, _phases_of(name, part), begin, end)


def _follow(
    module: nn.Module,
    part: str,
    names: Iterator[str],
    begin: Callable[[str], None],
    end: Callable[[str, Any], None],
) -> None:
    original = module.forward

    @functools.wraps(original)
    def forward(*args: Any, **kwargs: Any) -> Any:
        begin(next(names))
        result = original(*args, **kwargs)
        end(part, result)
        return result

    module.forward = forward


def _phases_of(name: str, part: nn.Module) -> Iterator[str]:
    """``talker prefill``, ``talker decode 1``, ... of a part that generates, else its name."""
    if not callable(getattr(part, "generate", None)):
        yield from repeat(name)
    yield f"{name} prefill"
    for number in count(1):
        yield f"{name} decode {number}"


def follow_components(model: nn.Module, begin: Callable[[str], None]) -> None:
    """Begin a phase where a component of a pipeline is entered; what follows belongs to it."""
    for name, component in model.named_children():
        for method in ENTRIES:
            original = getattr(component, method, None)
            if original is not None:
                setattr(component, method, _beginning(original, name, begin))


def _beginning(original: Callable[..., Any], name: str, begin: Callable[[str], None]) -> Any:
    @functools.wraps(original)
    def entered(*args: Any, **kwargs: Any) -> Any:
        begin(name)
        return original(*args, **kwargs)

    return entered
