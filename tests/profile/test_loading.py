"""What stands on a device beside a parameter while it is loaded, against real loading."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM, LlamaConfig, MixtralConfig

from devplan.profile.checkpoint import conversions
from devplan.profile.parameters import loading_bytes

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}
MOE = MixtralConfig(**SMALL, num_local_experts=16)
DENSE = LlamaConfig(**SMALL)


def on_meta(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


class LivingBytes(TorchDispatchMode):
    """Bytes of all storages that ops have made and that are still there."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: weakref.WeakSet = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


def test_fused_experts_are_there_twice_while_they_are_made():
    model = on_meta(MOE)
    _, converters = conversions(model)
    if not converters:
        pytest.skip("this transformers makes no parameter of several stored tensors")
    found = loading_bytes(model, sizes={}, packed={})
    experts = {
        n: p for n, p in model.named_parameters() if n.endswith(("gate_up_proj", "down_proj"))
    }
    assert found == {n: p.numel() * p.element_size() for n, p in experts.items()}


def test_real_loading_needs_no_more_than_that(tmp_path, monkeypatch):
    """[real] the operations of the installed transformers on the tensors of a checkpoint."""
    _, converters = conversions(on_meta(MOE))
    if not converters:
        pytest.skip("this transformers makes no parameter of several stored tensors")
    most_by_rule = max(loading_bytes(on_meta(MOE), sizes={}, packed={}).values())
    for converter in converters:
        sources = {}
        for source in converter.source_patterns:
            rows, columns = (128, 64) if "w2" not in source else (64, 128)
            sources[source] = [(rows, columns)] * MOE.num_local_experts
        with LivingBytes() as living:
            tensors = {
                source: [torch.zeros(shape) for shape in shapes]
                for source, shapes in sources.items()
            }
            for operation in converter.operations:
                tensors = operation.convert(
                    tensors,
                    source_patterns=converter.source_patterns,
                    target_patterns=converter.target_patterns,
                    full_layer_name=converter.target_patterns[0],
                    model=None,
                    config=MOE,
                    missing_keys=None,
                )
        (result,) = tensors.values()
        result_bytes = result.numel() * result.element_size()
        # [counted] the stored tensors were there, so that the tracker is known to see them
        assert result_bytes <= living.most - result_bytes <= most_by_rule


def test_what_the_checkpoint_stores_as_it_is_needs_nothing_more():
    model = on_meta(MOE)
    names = [name for name, _ in model.named_parameters()]
    assert loading_bytes(model, sizes={}, packed={}, stored=names) == {}
    assert loading_bytes(on_meta(DENSE), sizes={}, packed={}) == {}


def test_the_packed_form_is_there_while_it_is_unpacked():
    packed = {"a": 10, "b": 10}
    found = loading_bytes(on_meta(DENSE), sizes={"a": 40, "b": 10}, packed=packed)
    assert found == {"a": 10}
