"""Outputs with the cache are those without it, to the bit, and its counters are what was copied.

Real code, real weights and real hooks over two virtual cards; the virtual machine keeps a record of
every copy, made by other code than the counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

import devplan
from devplan.core.findings import RunRecord
from devplan.virtual.calls import ForwardCall, ModelCall
from tests.live.placed import Around, generate_call, run_placed
from tests.virtual import tiny


def cached(call: ModelCall) -> Around:
    return Around(inner=call, before=devplan.cache_transfers, after=lambda cache: cache.remove())


def copies(record: RunRecord) -> tuple[int, int]:
    """Copies and bytes that hooks made."""
    events = [event for event in record.transfers if event.asked_by == "hook"]
    return sum(e.count for e in events), sum(e.count * e.num_bytes for e in events)


def refused(record: RunRecord) -> list[tuple]:
    """Ops that PyTorch would refuse: some halves of a model split what is tied."""
    return [(event.op, event.module, str(event.source), event.count) for event in record.mismatches]


def compare(model: nn.Module, device_map: Mapping[str, str], call: ModelCall) -> RunRecord:
    """Run with and without; the cache saved something, and changed nothing."""
    inputs = call.takes(model, tiny.real_inputs(model.config.model_type))
    plain, expected = run_placed(model, inputs, device_map, call)
    with_cache = cached(call)
    record, given = run_placed(model, inputs, device_map, with_cache)
    assert plain.error is None and record.error is None and refused(plain) == refused(record)
    assert len(given) == len(expected) > 0 and all(map(torch.equal, given, expected))
    (cache,) = with_cache.seen
    assert (cache.total.num_asked, cache.total.asked_bytes) == copies(plain)
    assert (cache.total.num_made, cache.total.made_bytes) == copies(record)
    return record


def scattered(model: nn.Module) -> dict[str, str]:
    """Every other block on the second card: each layer is sent everything."""
    sites = tiny.split_of(model).sites
    return {site.name: f"cuda:{number % 2}" for number, site in enumerate(sites)}


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CASES))
def test_forward(model_type):
    model = tiny.real_model(model_type)
    compare(model, tiny.split_of(model).device_map, ForwardCall())


GENERATE = ["llama", "gemma2", "mixtral", "t5", "whisper", "qwen2_vl", "jamba"]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("model_type", GENERATE)
def test_generate_and_beams(model_type, beams):
    model = tiny.real_model(model_type)
    call = generate_call(model, num_beams=beams)
    record = compare(model, tiny.split_of(model).device_map, call)
    assert record.phases == ("prefill", "decode 1", "decode 2")


def test_copies_are_saved():
    model = tiny.real_model("llama")
    inputs = tiny.real_inputs("llama")
    plain, _ = run_placed(model, inputs, scattered(model), ForwardCall())
    record = compare(model, scattered(model), ForwardCall())
    assert copies(record)[0] < copies(plain)[0]


class Odd(nn.Module):
    """A layer that changes what it is given, keeps what it is given, or gives it back."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kind = kind

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor, pair: Any) -> torch.Tensor:
        if self.kind == "writes":
            mask.mul_(2)
        elif self.kind == "writes to a view":
            mask.view(2, 2)[1] += 1
        elif self.kind == "writes to both":
            pair[0].add_(mask)
        elif self.kind == "gives back":
            return mask
        return self.linear(hidden) * mask + pair[0] - pair[1]["other"]


class Oddities(nn.Module):
    """Layers on two cards, in an order, with writes of the model's own code in between."""

    def __init__(self, kinds: list[str], writes: list[str]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(map(Odd, kinds))
        self.writes = writes

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> tuple:
        pair = (mask + 1, {"other": mask * 3})
        outputs = []
        for layer, write in zip(self.layers, self.writes, strict=True):
            given = layer(hidden, mask=mask, pair=pair)
            outputs.append(given.clone())
            if write == "original":
                mask.add_(1)
            elif write == "nested":
                pair[1]["other"].view(-1)[0] = 7
            elif write == "result":
                given.add_(1)
            elif write == "replaced":
                mask = mask.clone()
        return tuple(outputs)


KINDS = ["plain", "writes", "writes to a view", "writes to both", "gives back"]
WRITES = ["nothing", "original", "nested", "result", "replaced"]


@pytest.mark.parametrize("seed", range(12))
def test_code_that_writes_to_what_it_is_given(seed):
    """Random models of that kind; every output equals that of the run without the cache."""
    torch.manual_seed(seed)
    choose = lambda names: [names[int(i)] for i in torch.randint(len(names), (8,))]  # noqa: E731
    model = Oddities(choose(KINDS), choose(WRITES)).eval()
    inputs = lambda: {"hidden": torch.ones(2, 4), "mask": torch.arange(4.0)}  # noqa: E731
    device_map = {f"layers.{n}": f"cuda:{int(n > 1)}" for n in range(8)}
    plain, expected = run_module(model, inputs(), device_map, ForwardCall())
    call = cached(ForwardCall())
    record, given = run_module(model, inputs(), device_map, call)
    assert plain.error is None and record.error is None
    assert len(given) == len(expected) == 8 and all(map(torch.equal, given, expected))
    (cache,) = call.seen
    assert (cache.total.num_asked, cache.total.num_made) == (copies(plain)[0], copies(record)[0])
    assert cache.total.num_made < cache.total.num_asked


def run_module(
    model: nn.Module, inputs: Mapping[str, Any], device_map: Mapping[str, str], call: Any
) -> tuple[RunRecord, list]:
    from devplan.virtual.patches import VirtualCard
    from devplan.virtual.run import SplitModel, run_split

    given: list[torch.Tensor] = []
    split = SplitModel(
        model=model,
        config=None,
        sites=(),
        device_map=device_map,
        main_device="cuda:0",
        cards=(VirtualCard(), VirtualCard()),
    )
    record = run_split(
        split, inputs, described="", call=call, fold=False, on_output=lambda out: given.extend(out)
    )
    return record, given
