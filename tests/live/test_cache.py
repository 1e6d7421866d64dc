"""accelerate's real hooks with a cache of transfers, on the devices that every machine has."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections import OrderedDict, namedtuple
from typing import Any

import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
from accelerate.utils import send_to_device
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

import devplan
from devplan.runtime.caching import TransferCache, TransferCounts, transfer_cache_of
from tests.virtual import tiny

NUM_LAYERS = 5
IDS = torch.arange(5, 25).view(2, 10)


class Layer(nn.Module):
    """Takes hidden states and a mask; what it does beyond that, the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.does: Any = lambda mask: None

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        self.does(mask)
        return self.linear(hidden) + mask


class Stack(nn.Module):
    """Code on the CPU and layers on the meta device: each of them is sent the mask."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(NUM_LAYERS))
        self.between: Any = lambda mask: None

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden = layer(hidden, mask=mask)
            self.between(mask)
        return hidden


def moves_in() -> AlignDevicesHook:
    return AlignDevicesHook("meta", place_submodules=True)


def stack() -> Stack:
    model = Stack()
    for layer in model.layers:
        add_hook_to_module(layer, moves_in())
    add_hook_to_module(model, AlignDevicesHook(io_same_device=False))
    return model


def inputs() -> dict[str, torch.Tensor]:
    return {"hidden": torch.ones(2, 4), "mask": torch.ones(4)}


def content(model: nn.Module) -> dict:
    """Everything that hangs on the modules and on their hooks."""
    return {
        name: {
            **{k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()},
            "hook": dict(vars(getattr(module, "_hf_hook", object))),
        }
        for name, module in model.named_modules()
    }


MASK_BYTES, HIDDEN_BYTES = 16, 32


# -------------------------------------------------------------------------------------- counters


def test_copies_and_bytes_before_and_after():
    model = stack()
    cache = devplan.cache_transfers(model)
    model(**inputs())
    assert cache.last == cache.total
    assert cache.total == TransferCounts(
        num_forwards=1,
        num_asked=NUM_LAYERS + 1,
        asked_bytes=NUM_LAYERS * MASK_BYTES + HIDDEN_BYTES,
        num_made=2,
        made_bytes=MASK_BYTES + HIDDEN_BYTES,
    )
    model(**inputs())
    assert cache.total == cache.last + cache.last and cache.total.num_forwards == 2
    assert cache.total.num_saved == 2 * (NUM_LAYERS - 1)
    assert str(cache.total) == "4 copies (96 B) instead of 12 (224 B) in 2 forwards"
    assert str(cache.total) in repr(cache)


def test_a_tensor_is_moved_once_a_forward_and_not_kept_for_the_next():
    model, given = stack(), inputs()
    cache = devplan.cache_transfers(model)
    model(**given)
    model(**given)
    assert cache.total.num_made == 4


def test_nothing_counted_outside_of_a_forward():
    model = stack()
    cache = devplan.cache_transfers(model)
    model.layers[0](**inputs())
    assert cache.total == TransferCounts()


def test_a_model_without_hooks():
    model = tiny.real_model("llama")
    before = content(model)
    cache = devplan.cache_transfers(model)
    assert content(model) == before and cache.total == TransferCounts()
    cache.remove()


# --------------------------------------------------------------------------------- in-place changes


def test_a_layer_that_writes_to_its_copy():
    model = stack()
    model.layers[1].does = lambda mask: mask.add_(1)
    cache = devplan.cache_transfers(model)
    model(**inputs())
    # hidden, the mask for layers 0 and 1, and again for 2 to 4
    assert cache.total.num_made == 3


def test_an_original_that_is_written_to():
    model = stack()
    model.between = lambda mask: mask.view(2, 2)[0].add_(1)
    cache = devplan.cache_transfers(model)
    model(**inputs())
    assert cache.total.num_made == cache.total.num_asked


def test_under_inference_mode_nothing_is_shared():
    model = stack()
    cache = devplan.cache_transfers(model)
    with torch.inference_mode():
        model(**inputs())
    assert cache.total.num_made == cache.total.num_asked


# ----------------------------------------------------------------------------- how a forward ends


def is_empty(cache: TransferCache) -> bool:
    return len(cache._thread.copies) == 0 and cache._thread.open == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_middle(error):
    model = stack()
    cache = devplan.cache_transfers(model)

    def fail(mask: torch.Tensor) -> None:
        raise error

    model.layers[3].does = fail
    with pytest.raises(error):
        model(**inputs())
    model.layers[3].does = lambda mask: None
    model(**inputs())
    assert is_empty(cache) and cache.last.num_made == 2 and cache.last.num_forwards == 1


def test_the_mask_is_free_once_the_forward_has_ended():
    model, seen = stack(), []
    model.layers[0].does = lambda mask: seen.append(weakref.ref(mask))
    given = inputs()
    cache = devplan.cache_transfers(model)
    model.layers[4].does = lambda mask: seen.append(seen[0]() is mask)
    model(**given)
    gc.collect()
    assert seen[1] is True and seen[0]() is None and is_empty(cache)


def test_an_exception_before_the_forward_began():
    model = stack()

    def refuse(*_: Any) -> None:
        raise ValueError

    handle = model.register_forward_pre_hook(refuse)
    cache = devplan.cache_transfers(model)
    with pytest.raises(ValueError):
        model(**inputs())
    handle.remove()
    assert is_empty(cache)
    model(**inputs())
    assert cache.total.num_forwards == 1 and cache.last.num_made == 2


def test_a_forward_inside_a_forward_shares_its_copies():
    model = stack()
    depth = []

    def again(mask: torch.Tensor) -> None:
        if not depth:
            depth.append(1)
            model(torch.ones(2, 4), mask)

    model.between = again
    cache = devplan.cache_transfers(model)
    model(**inputs())
    assert cache.total.num_forwards == 1
    # the mask, the hidden states of both
    assert cache.total.num_made == 3 and cache.total.num_asked == 2 * (NUM_LAYERS + 1)


def test_two_threads_do_not_see_each_other():
    model = stack()
    cache = devplan.cache_transfers(model)
    barrier, seen = threading.Barrier(2, timeout=30), {}

    def note(mask: torch.Tensor) -> None:
        seen.setdefault(threading.get_ident(), []).append(mask)
        barrier.wait()

    for layer in model.layers:
        layer.does = note
    shared = torch.ones(4)
    threads = [threading.Thread(target=lambda: model(torch.ones(2, 4), shared)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, two = seen.values()
    assert all(mask is one[0] for mask in one) and all(mask is two[0] for mask in two)
    assert one[0] is not two[0] and len(one) == len(two) == NUM_LAYERS
    assert cache.total.num_forwards == 2 and cache.total.num_made == 4


def test_one_thread_fails_and_the_other_goes_on():
    model = stack()
    cache = devplan.cache_transfers(model)
    failed, go_on, seen = threading.Event(), threading.Event(), []

    def in_layer(mask: torch.Tensor) -> None:
        if threading.current_thread().name == "fails":
            go_on.wait(30)
            raise ValueError
        seen.append(mask)
        if len(seen) == 2:
            go_on.set()
            failed.wait(30)

    for layer in model.layers:
        layer.does = in_layer

    def fails() -> None:
        with pytest.raises(ValueError):
            model(**inputs())
        failed.set()

    threads = [
        threading.Thread(target=fails, name="fails"),
        threading.Thread(target=lambda: model(**inputs())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == NUM_LAYERS and all(mask is seen[0] for mask in seen)
    assert cache.total.num_forwards == 2


# --------------------------------------------------------------------------------------- gradients


def test_what_carries_gradients_is_not_shared():
    model, given = stack(), inputs()
    given["mask"].requires_grad_()
    cache = devplan.cache_transfers(model)
    model(**given)
    assert cache.last.num_made == cache.last.num_asked
    with torch.no_grad():
        model(**given)
    assert cache.last.num_made == 2


# ----------------------------------------------------------------------------------- on and off


def test_removed_without_a_trace():
    model = stack()
    before = content(model)
    cache = devplan.cache_transfers(model)
    model(**inputs())
    assert content(model) != before and transfer_cache_of(model) is cache
    cache.remove()
    assert content(model) == before and transfer_cache_of(model) is None
    model(**inputs())
    assert cache.total.num_forwards == 1
    cache.remove()


def test_as_a_context():
    model = stack()
    before = content(model)
    with pytest.raises(ValueError), devplan.cache_transfers(model) as cache:
        model(**inputs())
        raise ValueError
    assert content(model) == before and cache.total.num_saved == NUM_LAYERS - 1


def test_twice_is_once():
    model = stack()
    cache = devplan.cache_transfers(model)
    once = content(model)
    assert devplan.cache_transfers(model) is cache and content(model) == once


def test_hooks_that_came_later_are_taken_over_by_the_next_call():
    model = stack()
    cache = devplan.cache_transfers(model)
    add_hook_to_module(model.layers[0], moves_in())
    model(**inputs())
    # the new hook moved the hidden states and a mask of its own
    assert cache.last.num_made == 1 and cache.last.num_asked == NUM_LAYERS - 1
    assert devplan.cache_transfers(model) is cache
    model(**inputs())
    assert cache.last.num_asked == NUM_LAYERS + 1


def test_hooks_that_are_gone():
    model = stack()
    cache = devplan.cache_transfers(model)
    remove_hook_from_module(model, recurse=True)
    assert model(torch.ones(2, 4, device="meta"), torch.ones(4, device="meta")).is_meta
    cache.remove()
    assert not model._forward_pre_hooks and not model._forward_hooks


def test_hooks_in_a_sequence():
    model = stack()
    for layer in model.layers:
        add_hook_to_module(layer, moves_in(), append=True)
    cache = devplan.cache_transfers(model)
    model(**inputs())
    assert cache.last.num_made == 2 and cache.last.num_asked == NUM_LAYERS + 1


def test_a_hook_with_a_way_of_its_own_is_left_alone():
    class Own(AlignDevicesHook):
        def pre_forward(self, module, *args, **kwargs):
            return super().pre_forward(module, *args, **kwargs)

    model = stack()
    add_hook_to_module(model.layers[0], Own("meta", place_submodules=True))
    cache = devplan.cache_transfers(model)
    assert "pre_forward" not in vars(model.layers[0]._hf_hook)
    model(**inputs())
    assert cache.last.num_made == 1 and cache.last.num_asked == NUM_LAYERS - 1


def test_a_copy_of_the_model_has_a_cache_of_its_own():
    model = stack()
    cache = devplan.cache_transfers(model)
    other = copy.deepcopy(model)
    own = devplan.cache_transfers(other)
    assert own is not cache
    other(**inputs())
    assert cache.total == TransferCounts() and own.total.num_made == 2
    own.remove()
    assert all("pre_forward" not in vars(layer._hf_hook) for layer in other.layers)
    assert transfer_cache_of(model) is cache
    model(**inputs())
    assert cache.total.num_made == 2


def test_a_part_and_then_the_whole():
    whole = nn.Sequential(OrderedDict(stack=stack()))
    before = content(whole)
    part = devplan.cache_transfers(whole.stack)
    assert devplan.cache_transfers(whole) is part is devplan.cache_transfers(whole.stack)
    whole.stack(**inputs())
    assert part.total.num_made == 2
    part.remove()
    assert content(whole) == before


def test_two_models_do_not_know_each_other():
    one, two = stack(), stack()
    cache = devplan.cache_transfers(one)
    assert devplan.cache_transfers(two) is not cache
    two(**inputs())
    assert cache.total == TransferCounts()


def test_a_copy_is_removed_by_what_is_found_on_it():
    model = stack()
    devplan.cache_transfers(model)
    other = copy.deepcopy(model)
    transfer_cache_of(other).remove()
    assert transfer_cache_of(other) is None and transfer_cache_of(model) is not None
    assert "pre_forward" not in vars(other.layers[0]._hf_hook)
    assert "pre_forward" in vars(model.layers[0]._hf_hook)


# --------------------------------------------------------------------------- as accelerate moves


Pair = namedtuple("Pair", "first second")
LEAVES = st.sampled_from(["cpu tensor", "parameter", 3, 2.5, "text", None, True, torch.float16])
DATA = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.tuples(inner, inner).map(lambda pair: Pair(*pair))
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=8,
)


def with_tensors(data: Any) -> Any:
    if isinstance(data, dict):
        return type(data)({key: with_tensors(item) for key, item in data.items()})
    if isinstance(data, Pair):
        return Pair(*map(with_tensors, data))
    if isinstance(data, (list, tuple)):
        return type(data)(map(with_tensors, data))
    made = {"cpu tensor": lambda: torch.ones(3), "parameter": lambda: nn.Parameter(torch.ones(2))}
    return made[data]() if isinstance(data, str) and data in made else data


def described(data: Any) -> Any:
    if isinstance(data, torch.Tensor):
        return type(data), tuple(data.shape), data.dtype, data.device, data.requires_grad
    if isinstance(data, dict):
        return type(data), {key: described(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return type(data), [described(item) for item in data]
    return data


@settings(max_examples=200, deadline=None)
@given(DATA, st.sampled_from([None, "a", ["a", "b"]]), st.sampled_from(["meta", "cpu"]))
def test_containers_come_out_as_from_accelerate(data, skip_keys, device):
    data = with_tensors(data)
    cache = TransferCache()
    ours = cache.send(data, device, skip_keys=skip_keys)
    theirs = send_to_device(data, device, skip_keys=skip_keys)
    assert described(ours) == described(theirs)


def test_objects_that_move_themselves():
    cache = TransferCache()
    output = BaseModelOutput(last_hidden_state=torch.ones(2))
    assert cache.send(output, "meta").last_hidden_state.is_meta
    assert cache.send(torch.float16, "meta") is torch.float16

    class Batch:
        def to(self, device: Any) -> str:
            return f"on {device}"

    assert cache.send([Batch()], "meta") == ["on meta"]


WHOLE = {"model.embed_tokens": "cpu", "model.layers": "cpu", "model.norm": "cpu"}
WHOLE |= {"model.rotary_emb": "cpu", "lm_head": "cpu"}


def test_a_whole_model_on_one_device():
    model = tiny.real_model("llama")
    with torch.no_grad():
        before = model(IDS).logits
        dispatch_model(model, WHOLE, main_device="cpu", force_hooks=True)
        with devplan.cache_transfers(model) as cache:
            assert torch.equal(model(IDS).logits, before)
            model.generate(IDS, max_new_tokens=3)
    assert cache.total == TransferCounts(num_forwards=4)


def test_offloaded_weights():
    model = tiny.real_model("llama")
    model.config.tie_word_embeddings = True
    model.tie_weights()
    with torch.no_grad():
        before = model(IDS).logits
        cpu_offload(model, execution_device=torch.device("cpu"))
        with devplan.cache_transfers(model):
            assert torch.equal(model(IDS).logits, before)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_compiled_code_is_left_to_accelerate():
    model = stack()
    with devplan.cache_transfers(model) as cache:
        torch.compile(model, backend="eager")(**inputs())
    assert cache.total.num_made <= cache.total.num_asked
