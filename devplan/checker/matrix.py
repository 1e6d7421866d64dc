"""Which calls of a model a check makes, and how each is asked for.

The first call is how the model is used at its workload; its memory and copies are the numbers of
the check.  The others are short.  They take the ways through the model's code that users take too
(`devplan.checker.run_options`).

A class that cannot be called in one of these ways is not asked to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from devplan.checker.run_options import ALL, USUAL, RunOptions
from devplan.core import InputError
from devplan.inputs import (
    FRAMES,
    SPECTROGRAMS,
    WAVEFORMS,
    ExampleInputs,
    Facts,
    InputRequest,
    user_function,
)
from devplan.models import Skeleton
from devplan.virtual import (
    ForwardCall,
    GenerateCall,
    ModelCall,
    UserCall,
    can_generate,
    has_forward,
    usual_call,
)

FEW_TOKENS = 64
"""Text tokens of a short call: enough to see every device."""
NUM_BEAMS = 2


def main_call(model: nn.Module, options: RunOptions) -> ModelCall:
    """The call at the workload.

    Raises
    ------
    InputError
        When the class cannot be called this way.
    UserCodeError
        When the file of the user's function raises.
    """
    if options.is_users:
        return UserCall(function=user_function(options.run)[0])
    if not can_generate(model) and (options.run == "generate" or options.generation):
        raise InputError(f"{type(model).__name__} cannot generate; use --run forward")
    usual = usual_call(model, options.generation)
    is_asked = options.run == "forward" and isinstance(usual, GenerateCall)
    return ForwardCall() if is_asked else usual


def workload_calls(skeleton: Skeleton, run: str) -> tuple[ModelCall, ...]:
    """The calls that ``--run`` makes at the workload; none where the model's code is not available.

    Raises
    ------
    InputError
        When the class cannot be called this way.
    """
    model = skeleton.model
    if not skeleton.executable:
        return ()
    main = main_call(model, RunOptions(run=run))
    if run not in (USUAL, "generate") and not has_forward(model) and can_generate(model):
        raise InputError(f"{type(model).__name__} has no forward of its own; leave --run {run} out")
    also = (ForwardCall(),) if run == ALL and isinstance(main, GenerateCall) else ()
    return (main, *also)


@dataclass(frozen=True, kw_only=True)
class ShortCall:
    """A call with few tokens, beside the one at the workload."""

    way: str
    call: ModelCall
    request: InputRequest
    """What its inputs contain."""
    completed: tuple[Callable[[Mapping[str, Any]], Mapping[str, Any] | None], ...] = ()
    """Ways to add what the inputs lack, the likeliest first; None where one cannot be had."""

    def inputs(self, example: ExampleInputs) -> Iterator[ExampleInputs]:
        """The inputs in every form that may be accepted."""
        if not self.completed:
            yield example
        for complete in self.completed:
            kwargs = complete(example.kwargs)
            if kwargs is not None:
                yield replace(example, kwargs=kwargs)


def short_calls(
    model: nn.Module, config: Any, main: ModelCall, example: ExampleInputs, request: InputRequest
) -> Iterator[ShortCall]:
    """Every short call that a class can be called by.

    Parameters
    ----------
    model, config
        The model on the meta device, and its configuration.
    main, example, request
        The call at the workload, its inputs, and what they were asked to contain.
    """
    if example.source == "user" or not isinstance(main, ForwardCall | GenerateCall):
        return
    few = replace(request, tokens=FEW_TOKENS, batch=1, padded=False)
    text = replace(few, images=0, videos=0, sounds=0)
    kinds = set(example.modalities)
    has_text = "text" in kinds
    lightest = text if has_text and not kinds - {"text", "decoder text"} else few
    if request.batch < 2:
        two = replace(few, batch=2, padded=True)
        masked = tuple(_masked(Facts(model, config, two))) if has_forward(model) else ()
        yield ShortCall(way="batch", call=main, request=two, completed=masked)
    if has_text and kinds & {"image", "video", "audio"}:
        yield ShortCall(way="text", call=main, request=text)
    if "video" not in kinds and request.images != 0 and _takes_videos(model):
        yield ShortCall(way="video", call=main, request=replace(text, videos=1))
    if isinstance(main, GenerateCall) and _searches_beams(model, main):
        arguments = {**main.arguments, "num_beams": NUM_BEAMS}
        yield ShortCall(way="beams", call=GenerateCall(arguments=arguments), request=lightest)
    if has_forward(model):
        labels = tuple(_labelled(Facts(model, config, few)))
        if labels or isinstance(main, GenerateCall):
            yield ShortCall(way="loss", call=ForwardCall(), request=few, completed=labels)


def _takes_videos(model: nn.Module) -> bool:
    return has_forward(model) and Facts(model, None, InputRequest()).takes(*FRAMES) is not None


def _searches_beams(model: nn.Module, main: GenerateCall) -> bool:
    """Whether ``generate`` is transformers' own, which searches beams, and was not asked for it."""
    from transformers import GenerationMixin

    own = getattr(type(model), "generate", None)
    return own is GenerationMixin.generate and "num_beams" not in main.arguments


def _masked(facts: Facts) -> Iterator[Callable[[Mapping[str, Any]], Mapping[str, Any] | None]]:
    """Inputs with the mask that sounds of two lengths come with, which not every class takes."""
    if "attention_mask" in facts.accepted and "input_ids" not in facts.accepted:
        yield partial(_with_sound_mask, facts)
        yield dict


def _with_sound_mask(facts: Facts, kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    name = next((name for name in (*WAVEFORMS, *SPECTROGRAMS) if name in kwargs), None)
    if name is None or "attention_mask" in kwargs:
        return None
    sound = kwargs[name]
    length = sound.shape[-1] if name in WAVEFORMS else sound.shape[1]
    mask = torch.ones(facts.request.batch, length, dtype=torch.int64)
    mask[0, length - length // 4 :] = 0
    return {**kwargs, "attention_mask": mask}


# ----------------------------------------------------------------------------------- labels


def _labelled(facts: Facts) -> Iterator[Callable[[Mapping[str, Any]], Mapping[str, Any] | None]]:
    """Inputs with labels, in each form that losses take them in."""
    if "labels" not in facts.accepted:
        return
    for make in (_next_tokens, _classes, _values):
        yield partial(make, facts)


def _next_tokens(facts: Facts, kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A class for every token: language models, taggers."""
    ids = kwargs.get("decoder_input_ids", kwargs.get("input_ids"))
    if not isinstance(ids, torch.Tensor):
        return None
    is_given = {"decoder_input_ids", "decoder_attention_mask"} if facts.is_encoder_decoder else {}
    rest = {name: value for name, value in kwargs.items() if name not in is_given}
    num_classes = facts.setting("num_labels") if _classifies(facts) else None
    labels = ids.clone() if num_classes is None else torch.zeros_like(ids)
    return {**rest, "labels": labels}


def _classes(facts: Facts, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """A class for every sequence, picture or sound."""
    return {**kwargs, "labels": torch.zeros(facts.request.batch, dtype=torch.int64)}


def _values(facts: Facts, kwargs: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Numbers of the shape of the floats that go in: reconstruction, regression."""
    floats = [v for v in kwargs.values() if isinstance(v, torch.Tensor) and v.is_floating_point()]
    return {**kwargs, "labels": facts.floats(*floats[0].shape)} if floats else None


def _classifies(facts: Facts) -> bool:
    """Whether the head has as many outputs as the configuration has labels."""
    num_labels = facts.setting("num_labels")
    heads = [m for _, m in facts.model.named_children() if isinstance(m, nn.Linear)]
    return any(head.out_features == num_labels for head in heads)
