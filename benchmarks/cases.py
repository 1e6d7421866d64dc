"""The models and machines on which planners are compared."""

from __future__ import annotations

from dataclasses import dataclass

QWEN_VL = "Qwen/Qwen2.5-VL-{}-Instruct"
LLAMA = "meta-llama/Llama-3.1-{}-Instruct"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A catalogue model on a machine."""

    id: str
    gpus: str

    @property
    def name(self) -> str:
        return f"{self.id.partition('/')[2]} on {self.gpus.replace('GiB', '')}"


CASES = (
    Case(id=QWEN_VL.format("3B"), gpus="12GiB,12GiB"),
    Case(id=QWEN_VL.format("7B"), gpus="24GiB,24GiB"),
    Case(id=QWEN_VL.format("7B"), gpus="24GiB,12GiB"),
    Case(id=QWEN_VL.format("7B"), gpus="11GiB,11GiB"),
    Case(id=QWEN_VL.format("72B"), gpus="80GiB,80GiB"),
    Case(id=QWEN_VL.format("72B"), gpus="48GiB,48GiB,24GiB,24GiB"),
    Case(id=QWEN_VL.format("72B"), gpus="8x24GiB"),
    Case(id=LLAMA.format("8B"), gpus="24GiB,8GiB"),
    Case(id=LLAMA.format("70B"), gpus="80GiB,80GiB"),
    Case(id=LLAMA.format("70B"), gpus="8x24GiB"),
    Case(id="mistralai/Mixtral-8x7B-v0.1", gpus="48GiB,24GiB,24GiB"),
    Case(id="Qwen/Qwen3-Next-80B-A3B-Instruct", gpus="8x24GiB"),
)
"""Small and large, equal and unequal cards, a tight one, one that cannot be, dense and sparse."""
