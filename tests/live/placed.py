"""Tiny models with real weights over two virtual cards, by maps that the tests write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from devplan.core.findings import RunRecord
from devplan.virtual.calls import ForwardCall, GenerateCall, ModelCall
from devplan.virtual.run import run_split
from tests.virtual import tiny
from tests.virtual.test_fidelity import tensors_of


@dataclass(frozen=True, kw_only=True)
class Around:
    """A call with something done to the model before it, on the virtual cards, and undone after."""

    inner: ModelCall
    before: Callable[[nn.Module], Any]
    after: Callable[[Any], None]
    seen: list[Any] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.inner.name

    def takes(self, model: nn.Module, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.inner.takes(model, inputs)

    def phases(self):
        return self.inner.phases()

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        made = self.before(model)
        try:
            return self.inner.run(model, inputs)
        finally:
            self.after(made)
            self.seen.append(made)


def run_placed(
    model: nn.Module,
    inputs: Mapping[str, Any],
    device_map: Mapping[str, str],
    call: ModelCall | Around | None = None,
    main_device: str = "cuda:0",
) -> tuple[RunRecord, list]:
    """What a run by this map shows, and every tensor that it gives."""
    call, given = call or ForwardCall(), []
    record = run_split(
        replace(tiny.split_of(model), device_map=device_map, main_device=main_device),
        call.takes(model, inputs),
        described="",
        call=call,
        fold=False,
        on_output=lambda output: given.extend(tensors_of(output)),
    )
    return record, given


def generate_call(model: nn.Module, **arguments: Any) -> GenerateCall:
    """``generate`` with everything that it can give back, experts one after the other."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")  # see tests/virtual/test_fidelity.py
    model.generation_config.return_dict_in_generate = True
    model.generation_config.output_logits = True
    return GenerateCall(arguments=arguments)
