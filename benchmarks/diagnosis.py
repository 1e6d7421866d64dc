"""What diagnosis costs while nothing fails, and how long a report takes once something does."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.report import Report, Requirement, Table
from benchmarks.timing import best_times_ms
from devplan.checker.from_model import weightless_copy
from devplan.diagnosis.attached import attach_diagnosis
from devplan.diagnosis.from_exception import report_of
from devplan.diagnosis.watching import diagnose
from devplan.models.build import build_skeleton
from devplan.models.resolution import resolve

NUM_ROUNDS = 25
CALLS_A_ROUND = 2_000
FORWARDS_A_ROUND = 5
MOST_SHARE = 0.02
LARGE = "meta-llama/Llama-3.1-70B-Instruct"
MOST_STORY_S = 1.0

SMALL = {"NUM_ROUNDS": 1, "CALLS_A_ROUND": 10, "FORWARDS_A_ROUND": 1}

PROSE = f"""
*While nothing fails*: a call of a module that does nothing (`nn.Identity`): plain, inside
`with devplan.diagnose(module)`, and with `devplan.attach_diagnosis(module)`. What is added to a
call does not depend on the model, since nothing is put inside; it is set beside one forward (7
tokens) of a Llama of two layers of width 32, far shorter than any real one. In one process, the
ways in turns, the best of {NUM_ROUNDS} rounds of {CALLS_A_ROUND:,} calls in processor time.

*Once something fails*: from the exception to its note, for that model and for Llama-3.1-70B at full
size on the meta device, one norm of which was put on the CPU.
"""


def measure() -> Report:
    """Both parts."""
    calls, forward_us = _call_us(), _forward_us()
    reports = {"Llama of two layers": _report_s(_tiny()), "Llama-3.1-70B": _report_s(_large())}
    return Report(
        title="Cost of diagnosis",
        prose=PROSE,
        tables=(
            Table(title="While nothing fails", rows=_rows(calls, forward_us)),
            Table(
                title="Once something fails",
                rows=[{"model": name, "s": f"{s:.3f}"} for name, s in reports.items()],
            ),
        ),
        requirements=[
            *_requirements(calls, forward_us),
            *(
                Requirement(
                    text=f"{name}: a report in under {MOST_STORY_S:.0f} s",
                    measured=f"{s:.3f} s",
                    met=s < MOST_STORY_S,
                )
                for name, s in reports.items()
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


PLAIN = "plain"


def _call_us() -> dict[str, float]:
    """Way -> microseconds of a call of a module that does nothing."""
    plain, attached, given = nn.Identity(), nn.Identity(), torch.ones(1)
    attach_diagnosis(attached)

    def repeat(model: nn.Module) -> None:
        for _ in range(CALLS_A_ROUND):
            model(given)

    def repeat_diagnosed() -> None:
        for _ in range(CALLS_A_ROUND):
            with diagnose(plain):
                plain(given)

    ways = {
        PLAIN: partial(repeat, plain),
        "with diagnose": repeat_diagnosed,
        "attached": partial(repeat, attached),
    }
    times = best_times_ms(ways, NUM_ROUNDS)
    return {way: 1e3 * ms / CALLS_A_ROUND for way, ms in times.items()}


def _forward_us() -> float:
    """Of the shortest forward."""
    model, ids = _tiny(), torch.ones(1, 7, dtype=torch.int64)

    def repeat() -> None:
        with torch.no_grad():
            for _ in range(FORWARDS_A_ROUND):
                model(input_ids=ids)

    return 1e3 * best_times_ms({"forward": repeat}, NUM_ROUNDS)["forward"] / FORWARDS_A_ROUND


def _rows(calls: Mapping[str, float], forward_us: float) -> list[dict]:
    return [
        {
            "way": way,
            "CPU us a call": f"{us:.2f}",
            "added us": f"{us - calls[PLAIN]:.2f}",
            "of a forward": f"{(us - calls[PLAIN]) / forward_us:.2%}",
        }
        for way, us in calls.items()
    ] + [{"way": "the forward", "CPU us a call": f"{forward_us:.2f}"}]


def _requirements(calls: Mapping[str, float], forward_us: float) -> list[Requirement]:
    shares = {way: (us - calls[PLAIN]) / forward_us for way, us in calls.items() if way != PLAIN}
    return [
        Requirement(
            text=f"{way}: adds at most {MOST_SHARE:.0%} of that forward",
            measured=f"{share:.2%}",
            met=share <= MOST_SHARE,
        )
        for way, share in shares.items()
    ]


def _report_s(model: nn.Module) -> float:
    """From the exception to its report, the best of three."""
    norm = model.model.layers[1].input_layernorm
    others = "cpu" if norm.weight.is_meta else "meta"
    norm.weight = nn.Parameter(
        torch.ones(norm.weight.shape, device=others, dtype=norm.weight.dtype)
    )
    model.hf_device_map = {"": "cpu"}
    ids = torch.ones(1, 7, dtype=torch.int64, device=model.lm_head.weight.device)
    return min(_one_report_s(model, ids) for _ in range(3))


def _one_report_s(model: nn.Module, ids: torch.Tensor) -> float:
    try:
        with torch.no_grad():
            model(input_ids=ids)
    except RuntimeError as error:
        start = time.perf_counter()
        diagnose(model).explain(error)
        seconds = time.perf_counter() - start
        assert report_of(error).module == "model.layers.1.input_layernorm"
        return seconds
    raise AssertionError("it did not fail")
