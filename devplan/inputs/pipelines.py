"""Arguments for the ``__call__`` of a diffusers pipeline: a prompt, and what it is to make.

The prompt is longer than any tokenizer keeps, so that text encoders see as many tokens as the
pipeline's own code allows; a part of it stands in quotes, as text that is to be drawn, for which
some pipelines have an encoder of its own.
"""

from __future__ import annotations

from typing import Any

from devplan.inputs.request import ExampleInputs, InputRequest
from devplan.models import PipelineModule

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
        notes=("token ids are made up: a tokenizer of bytes stands in for the pipeline's own",),
    )
