"""Example inputs for any model: from its folder's processor, else from what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from devplan.core import DevplanError, one_line
from devplan.inputs.choosing import inputs_from_config
from devplan.inputs.facts import Facts
from devplan.inputs.processor import NoProcessor, inputs_from_folder
from devplan.inputs.request import ExampleInputs, InputRequest, NoExampleInputs
from devplan.models import PipelineModule
from devplan.virtual import OneCard, entered_part


def example_inputs(
    model: nn.Module,
    config: Any,
    request: InputRequest,
    *,
    folder: Path | None = None,
    card: OneCard | None = None,
) -> ExampleInputs:
    """Arguments for ``forward`` and ``generate`` of a skeleton.

    Parameters
    ----------
    model
        On the meta device; it is run virtually to count features, and left as it was.
    config
        Its configuration.
    request
        What the example should contain.
    folder
        Of the model, where it is on this machine; only its files are read.
    card
        Where the model is asked, if that is to be where it is run later.

    Raises
    ------
    NoExampleInputs
        When an argument that the model requires cannot be made.
    """
    if isinstance(model, PipelineModule):
        return pipeline_inputs(model, request)
    notes: tuple[str, ...] = ()
    if (entered := entered_part(model)) is not None:
        name, model = entered
        config = model.config
        notes = (f"the model has no forward: inputs are those of its part {name!r}",)
    if card is not None and (card.model is not model or folder is not None):
        card.clear()  # a part is asked on a card of its own; a processor is no code of devplan
    facts = Facts(model, config, request, card if card and card.model is model else None)
    if folder is not None:
        try:
            made = inputs_from_folder(facts, folder)
            return _complete(facts, replace(made, notes=(*notes, *made.notes)))
        except NoProcessor as reason:
            notes = (*notes, f"inputs were made from the configuration: {reason}")
    made = _from_config(facts)
    made = replace(made, notes=(*notes, *made.notes))
    if facts.required - made.kwargs.keys() and (dummy := _dummy_inputs(facts)) is not None:
        made = replace(dummy, notes=made.notes)
    return _complete(facts, made)


def _from_config(facts: Facts) -> ExampleInputs:
    """Inputs made from the configuration, whose values may contradict each other."""
    try:
        return inputs_from_config(facts)
    except DevplanError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NoExampleInputs(
            f"{type(facts.model).__name__}: no example can be made from its configuration "
            f"({type(error).__name__}: {one_line(error)}); correct it, or give inputs with "
            "--inputs file.py:function"
        ) from error


def _dummy_inputs(facts: Facts) -> ExampleInputs | None:
    """What the class itself carries for tracing, where that holds all that ``forward`` requires."""
    try:
        with torch.device("cpu"):
            dummy = facts.model.dummy_inputs
    except Exception:  # a property of the model's own code
        return None
    if not isinstance(dummy, Mapping) or facts.required - dummy.keys():
        return None
    kwargs = {
        name: facts.floats(*value.shape)
        if isinstance(value, torch.Tensor) and value.is_floating_point()
        else value
        for name, value in dummy.items()
        if name in facts.accepted
    }
    return ExampleInputs(kwargs=kwargs, modalities=("values",), source="dummy inputs of the class")


def _complete(facts: Facts, made: ExampleInputs) -> ExampleInputs:
    missing = sorted(facts.required - made.kwargs.keys())
    if missing or not made.kwargs:
        what = " and ".join(map(repr, missing)) or "any of its arguments"
        raise NoExampleInputs(
            f"{type(facts.model).__name__}: no example can be made for {what}; "
            "give inputs with --inputs file.py:function"
        )
    return made


# Pipelines. The prompt is longer than any tokenizer keeps, so that text encoders see as many
# tokens as the pipeline's own code allows; a part of it is in quotes, as text to be drawn, for
# which some pipelines have another encoder.

NUM_STEPS = 3
"""Denoising steps of a run: the second and third find what a scheduler of several steps keeps of
the ones before; further ones need no more."""
PROMPT = 'A sign that says "' + "word " * 400 + '". ' + "and so on " * 800
"""Of 10,000 bytes, each a token to the tokenizer that stands in."""


def pipeline_inputs(model: PipelineModule, request: InputRequest) -> ExampleInputs:
    """Keyword arguments of the pipeline for a batch of prompts.

    Parameters
    ----------
    model
        Says which arguments its ``__call__`` has.
    request
        Batch, tokens of a prompt, and size and length of what is made.
    """
    prompts = [PROMPT] * request.batch if request.batch > 1 else PROMPT
    made: dict[str, Any] = {
        "prompt": prompts,
        "negative_prompt": prompts,
        "num_inference_steps": NUM_STEPS,
        "output_type": "pt",
        "max_sequence_length": request.tokens,
    }
    if request.made_size is not None:
        made["height"], made["width"] = request.made_size
    if request.made_frames is not None:
        made["num_frames"] = request.made_frames
    arguments = {name: value for name, value in made.items() if name in model.accepted}
    if request.tiling:
        arguments["tiling"] = True
    return ExampleInputs(
        kwargs=arguments,
        modalities=("prompt",),
        source="configuration",
        notes=("token ids are synthetic: a tokenizer of bytes stands in for the pipeline's own",),
    )
