"""The transfer cache of a pipeline, with real weights over two virtual cards.

There copies are made, as on real ones: fewer, and what comes out is the same to the bit.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import torch
from torch import nn

import devplan
from devplan.models.blocks import partition
from devplan.models.build import declared_no_split
from devplan.models.pipeline_module import PipelineModule
from devplan.virtual.calls import PipelineCall
from devplan.virtual.patches import VirtualCard
from devplan.virtual.run import SplitModel, run_split
from tests.pipelines.tiny import SIZES, tiny_pipeline
from tests.virtual.test_fidelity import tensors_of


def module_of(pipeline) -> PipelineModule:
    parts = pipeline.components
    models = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    others = {name: lambda part=part: part for name, part in parts.items() if name not in models}
    return PipelineModule(type(pipeline), models, others)


class CachedCall(PipelineCall):
    """With the cache of every model, taken off after the call."""

    def run(self, model, inputs):
        with contextlib.ExitStack() as caches:
            for part in model.children():
                caches.enter_context(devplan.cache_transfers(part))
            return super().run(model, inputs)


def run(module, device_map, call):
    outputs = []
    torch.manual_seed(7)
    split = SplitModel(
        model=module,
        config=SimpleNamespace(),
        sites=partition(module, declared_no_split(module)),
        device_map=device_map,
        main_device="cuda:0",
        cards=(VirtualCard(), VirtualCard()),
    )
    record = run_split(
        split,
        {"prompt": "a sign", "num_inference_steps": 2, "output_type": "pt", **SIZES["flux"]},
        described="",
        call=call,
        fold=False,
        on_output=lambda output: outputs.extend(tensors_of(output)),
    )
    assert record.error is None
    return record, outputs


def test_fewer_copies_and_the_same_picture():
    """Every other layer of the transformer on the second card: each is sent everything."""
    module = module_of(tiny_pipeline("flux"))
    device_map = {"vae": "cuda:0", "text_encoder": "cuda:0", "text_encoder_2": "cuda:1"}
    for number, name in enumerate(parts_of_transformer(module.transformer)):
        device_map[f"transformer.{name}"] = f"cuda:{number % 2}"
    plain, expected = run(module, device_map, PipelineCall())
    record, given = run(module, device_map, CachedCall())
    assert expected and all(map(torch.equal, given, expected))
    assert 0 < copies(record) < copies(plain)


def parts_of_transformer(transformer):
    for name, part in transformer.named_children():
        layers = part.named_children() if isinstance(part, nn.ModuleList) else ()
        yield from [f"{name}.{number}" for number, _ in layers] or [name]


def copies(record) -> int:
    """Of arguments, by accelerate's hooks."""
    return sum(event.count for event in record.transfers if event.asked_by == "hook")


def test_exceptions_to_an_entry_of_a_whole_model_are_kept():
    """accelerate would take the entry of the whole for the main device, and move all there."""
    module = module_of(tiny_pipeline("flux"))
    device_map = {
        "": "cuda:0",
        "transformer": "cuda:1",
        "transformer.transformer_blocks.1": "cuda:0",
    }
    record, given = run(module, device_map, PipelineCall())
    _, expected = run(module, {"": "cuda:0"}, PipelineCall())
    assert given and all(map(torch.equal, given, expected))
    assert copies(record) > 0
