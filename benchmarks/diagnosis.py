"""What diagnosis costs while nothing fails, and how long a story takes once something does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.checks.live import weightless_copy
from devplan.diagnosis import attach, detach, diagnose, story_of
from devplan.skeleton import build_skeleton
from devplan.sources import resolve

NUM_ROUNDS = 15
CALLS_A_ROUND = 20
NEW_TOKENS = 16
MOST = 1.02
LARGE = "meta-llama/Llama-3.1-70B-Instruct"
MOST_STORY_S = 1.0

PROSE = f"""
*While nothing fails*: forward (7 tokens, {CALLS_A_ROUND} calls a round) and `generate`
({NEW_TOKENS} new tokens) of a Llama of two layers of width 32, where nearly all time is Python's
and a wrapper shows most; plain, inside `with devplan.diagnose(model)`, and with
`devplan.diagnosis.attach(model)`. In one process, the ways in turns, the best of {NUM_ROUNDS}
rounds in processor time. A real model's forward is a thousand times longer, and the same number of
Python calls is added to it: one for each call of the whole model, none inside.

*Once something fails*: from the exception to its note, for that model and for Llama-3.1-70B at full
size on the meta device, one norm of which was put on the CPU.
"""


def measure() -> Report:
    """Both parts."""
    forward, generate = _times(_forward, CALLS_A_ROUND), _times(_generate, 1)
    stories = {"Llama of two layers": _story_s(_tiny()), "Llama-3.1-70B": _story_s(_large())}
    return Report(
        title="Cost of diagnosis",
        prose=PROSE,
        tables=(
            Table(
                title="While nothing fails",
                rows=[*_rows("forward", forward), *_rows("generate", generate)],
            ),
            Table(
                title="Once something fails",
                rows=[{"model": name, "s": f"{s:.3f}"} for name, s in stories.items()],
            ),
        ),
        requirements=[
            *_requirements("forward", forward),
            *_requirements("generate", generate),
            *(
                Requirement(
                    text=f"{name}: a story in under {MOST_STORY_S:.0f} s",
                    measured=f"{s:.3f} s",
                    met=s < MOST_STORY_S,
                )
                for name, s in stories.items()
            ),
        ],
    )


def _tiny() -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def _large() -> nn.Module:
    return weightless_copy(build_skeleton(resolve(LARGE)).model)


def _forward(model: nn.Module) -> None:
    with torch.no_grad():
        model(input_ids=torch.ones(1, 7, dtype=torch.int64))


def _generate(model: nn.Module) -> None:
    ids = torch.ones(1, 7, dtype=torch.int64)
    model.generate(
        ids,
        attention_mask=ids,
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
    )


def _times(call: Callable[[nn.Module], None], calls: int) -> Mapping[str, float]:
    plain, attached = _tiny(), _tiny()
    attach(attached)
    ways: dict[str, Callable[[], Any]] = {
        "plain": partial(_repeat, call, plain, calls),
        "with diagnose": partial(_repeat_diagnosed, call, plain, calls),
        "attached": partial(_repeat, call, attached, calls),
    }
    times = best_times_ms(ways, NUM_ROUNDS)
    detach(attached)
    return times


def _repeat(call: Callable[[nn.Module], None], model: nn.Module, calls: int) -> None:
    for _ in range(calls):
        call(model)


def _repeat_diagnosed(call: Callable[[nn.Module], None], model: nn.Module, calls: int) -> None:
    for _ in range(calls):
        with diagnose(model):
            call(model)


def _rows(call: str, times: Mapping[str, float]) -> list[dict]:
    return [
        {"call": call, "way": way, "CPU ms": f"{ms:.1f}", "ratio": f"{ms / times['plain']:.3f}"}
        for way, ms in times.items()
    ]


def _requirements(call: str, times: Mapping[str, float]) -> list[Requirement]:
    return [
        Requirement(
            text=f"{call}, {way}: at most {MOST} times plain",
            measured=f"{times[way] / times['plain']:.3f}",
            met=times[way] <= MOST * times["plain"],
        )
        for way in ("with diagnose", "attached")
    ]


def _story_s(model: nn.Module) -> float:
    """From the exception to its story, the best of three."""
    norm = model.model.layers[1].input_layernorm
    others = "cpu" if norm.weight.is_meta else "meta"
    norm.weight = nn.Parameter(
        torch.ones(norm.weight.shape, device=others, dtype=norm.weight.dtype)
    )
    model.hf_device_map = {"": "cpu"}
    ids = torch.ones(1, 7, dtype=torch.int64, device=model.lm_head.weight.device)
    return min(_one_story_s(model, ids) for _ in range(3))


def _one_story_s(model: nn.Module, ids: torch.Tensor) -> float:
    try:
        with torch.no_grad():
            model(input_ids=ids)
    except RuntimeError as error:
        start = time.perf_counter()
        diagnose(model).tell(error)
        seconds = time.perf_counter() - start
        assert story_of(error).module == "model.layers.1.input_layernorm"
        return seconds
    raise AssertionError("it did not fail")
