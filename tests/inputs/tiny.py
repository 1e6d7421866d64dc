"""Models of a few layers on the meta device, and a check that inputs suit them."""

from __future__ import annotations

import torch
from torch import nn

from devplan.inputs.example import example_inputs
from devplan.inputs.request import ExampleInputs, InputRequest
from devplan.models.blocks import partition
from devplan.virtual.tracing import Trace
from tests.virtual.traced import traced

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def on_meta(model_class: type, config) -> nn.Module:
    with torch.device("meta"):
        return model_class._from_config(config).eval()


def made_and_run(model: nn.Module, **request) -> tuple[ExampleInputs, Trace]:
    """The example for a request, and the virtual run that it is good for."""
    example = example_inputs(model, model.config, InputRequest(**request))
    return example, traced(model, partition(model), example.kwargs)


def made_and_watched(model: nn.Module, name: str, **request) -> tuple[ExampleInputs, Trace, int]:
    """As above, with the number of calls of the module `name` in the run."""
    example = example_inputs(model, model.config, InputRequest(**request))
    calls: list[None] = []
    handle = model.get_submodule(name).register_forward_hook(lambda *_: calls.append(None))
    try:
        trace = traced(model, partition(model), example.kwargs)
    finally:
        handle.remove()
    return example, trace, len(calls)
