"""Ops that compare some of their operands themselves, in their own words."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from devplan.virtual.rules.rule import Call, Clash, Seen, clash_at, gathering_place


@dataclass(frozen=True, kw_only=True)
class Worded:
    """The listed arguments on one device.

    Attributes
    ----------
    arguments : tuple[str, ...]
        The first sets the device.
    text : str
        The message; ``{argument}`` stands for that argument's device.
    """

    arguments: tuple[str, ...]
    text: str
    source: str
    name: str = "one device, in the op's own words"

    def weigh(self, call: Call) -> Clash | None:
        seen = [item for argument in self.arguments for item in call.of(argument)]
        if len({item.device for item in seen}) < 2:
            return None
        devices = {item.argument: item.device for item in seen}
        return clash_at(self.text.format_map(devices), gathering_place(seen), seen)

    def home(self, call: Call) -> torch.device:
        return call.seen[0].device


@dataclass(frozen=True, kw_only=True)
class Recurrent:
    """LSTM, GRU and RNN: hidden states and parameters with the input."""

    name: str = "hidden states and parameters with the input"
    source: str = "aten/src/ATen/native/RNN.h check_attributes"

    def weigh(self, call: Call) -> Clash | None:
        first, *rest = call.seen
        ordered = sorted(rest, key=lambda item: _kind(item) == "parameter")
        for item in ordered:
            if item.device != first.device:
                kind = _kind(item)
                message = (
                    f"Input and {kind} tensors are not at the same device, found input tensor at "
                    f"{first.device} and {kind} tensor at {item.device}"
                )
                return clash_at(message, gathering_place(call.seen), call.seen)
        return None

    def home(self, call: Call) -> torch.device:
        return call.seen[0].device


def _kind(item: Seen) -> str:
    is_parameter = "weight" in item.argument or item.argument == "params"
    return "parameter" if is_parameter else "hidden"


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Input, weight and bias together; the words depend on who notices first.

    The composite compares *types*, which tell CPU from CUDA but not one GPU from another; between
    two GPUs cuDNN's wrapper notices the weight, and the addition of the bias notices that.
    """

    name: str = "convolution"
    source: str = (
        "aten/src/ATen/native/Convolution.cpp check_input_same_type_as_parameters; "
        "torch/csrc/Exceptions.cpp processErrorMsg"
    )

    def weigh(self, call: Call) -> Clash | None:
        given, *rest = call.seen
        for item in rest:
            if item.device != given.device:
                message = _convolution_message(call, given, item)
                return clash_at(message, gathering_place(call.seen), call.seen)
        return None

    def home(self, call: Call) -> torch.device:
        return call.seen[0].device


def _convolution_message(call: Call, given: Seen, odd: Seen) -> str:
    if given.device.type != odd.device.type:
        tail = " should be the same"
        if given.is_cpu:
            tail += f" or input should be a MKLDNN tensor and {odd.argument} is a dense tensor"
        return f"Input type ({_type_name(given)}) and {odd.argument} type ({_type_name(odd)}){tail}"
    if odd.argument == "bias":
        return (
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{given.device} and {odd.device}!"
        )
    kind = "_cudnn_convolution_transpose" if call.values.get("transposed") else "_cudnn_convolution"
    return (
        f"Expected all tensors to be on the same device, but got weight is on {odd.device}, "
        f"different from other tensors on {given.device} "
        f"(when checking argument in method wrapper_CUDA_{kind})"
    )


_LEGACY_NAMES = {
    torch.float32: "Float",
    torch.float64: "Double",
    torch.float16: "Half",
}
"""Dtypes whose old Python names PyTorch prints; others keep the C++ name."""


def _type_name(item: Seen) -> str:
    """``torch.cuda.FloatTensor`` or, for a dtype younger than those names, ``CUDABFloat16Type``."""
    backend = item.device.type
    if legacy := _LEGACY_NAMES.get(item.tensor.dtype):
        prefix = "torch" if backend == "cpu" else f"torch.{backend}"
        return f"{prefix}.{legacy}Tensor"
    dtype = str(item.tensor.dtype).removeprefix("torch.")
    return f"{backend.upper()}{'BFloat16' if dtype == 'bfloat16' else dtype.capitalize()}Type"
