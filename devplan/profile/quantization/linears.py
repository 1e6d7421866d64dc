"""What there is to quantize: linear modules, and fused experts as the linears that they hold.

A *linear* is one matrix product, weight ``[out, in]``.  ``nn.Linear`` modules hold one each.  From
transformers 5 on the experts of a layer are fused into two parameters::

    gate_up_proj  [experts, 2 * intermediate, hidden]    down_proj  [experts, hidden, intermediate]

(``up_proj`` alone where there is no gate; the last two dimensions swapped in the classes that keep
them *transposed*), while checkpoints store, and quantization methods quantize, every projection of
every expert by itself.  `FusedWeight` is such a parameter together with the linears it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn

from devplan.profile.tree import NamedModules

try:
    from transformers.pytorch_utils import Conv1D
except ImportError:  # pragma: no cover - transformers always had it
    Conv1D = nn.Linear

_FUSED_NAMES = ("gate_up_proj", "gate_proj", "up_proj", "down_proj")


class Linear(NamedTuple):
    """Shape of one linear, or of `count` equal ones."""

    out_features: int
    in_features: int
    count: int = 1

    @property
    def numel(self) -> int:
        return self.count * self.out_features * self.in_features


class FusedWeight(NamedTuple):
    """A three-dimensional expert parameter and the linears that it stands for."""

    parameter: str
    module: str
    projections: tuple[str, ...]
    """Names of the projections of one expert, in the order in which they are concatenated."""
    linear: Linear
    """Shape of one projection; ``count`` is experts times projections."""
    num_experts: int
    bias_features: int
    """Elements of the parameter's bias over all experts; 0 where it has none."""

    @property
    def fused_out_features(self) -> int:
        """Rows of the fused matrix of one expert: ``2 * intermediate`` for ``gate_up_proj``."""
        return self.linear.out_features * len(self.projections)


def linear_shape(module: nn.Module) -> Linear | None:
    """Shape of a linear module (``Conv1D`` of GPT-2 included), or None for any other module."""
    if isinstance(module, nn.Linear):
        return Linear(module.out_features, module.in_features)
    if isinstance(module, Conv1D):
        in_features, out_features = module.weight.shape
        return Linear(out_features, in_features)
    return None


def subclass_reason(module: nn.Module) -> str:
    """Why a method that converts exactly ``nn.Linear`` leaves this one."""
    return f"{type(module).__name__} is a subclass of nn.Linear"


def is_fused_experts(module: nn.Module) -> bool:
    """Whether a module holds the experts of a layer as three-dimensional parameters."""
    own = module._parameters
    down = own.get("down_proj")
    return down is not None and down.ndim == 3


def fused_weights(modules: NamedModules) -> Iterator[FusedWeight]:
    """The fused expert parameters of a model, in the order of its modules."""
    for name, module in modules:
        if is_fused_experts(module):
            yield from _fused_weights_of(name, module)


def _fused_weights_of(name: str, module: nn.Module) -> Iterator[FusedWeight]:
    transposed = _is_transposed(module)
    for own_name in _FUSED_NAMES:
        parameter = module._parameters.get(own_name)
        if parameter is None or parameter.ndim != 3:
            continue
        num_experts, out_features, in_features = parameter.shape
        if transposed:
            out_features, in_features = in_features, out_features
        projections = ("gate_proj", "up_proj") if own_name == "gate_up_proj" else (own_name,)
        bias = module._parameters.get(f"{own_name}_bias")
        yield FusedWeight(
            parameter=f"{name}.{own_name}",
            module=name,
            projections=projections,
            linear=Linear(
                out_features // len(projections), in_features, num_experts * len(projections)
            ),
            num_experts=num_experts,
            bias_features=bias.numel() if bias is not None else 0,
        )


def _is_transposed(module: nn.Module) -> bool:
    """Whether the experts lie as ``[experts, in, out]``.

    Classes decorated with ``use_experts_implementation`` say so; of others the shapes do, as the
    input of one projection is the output of the other.
    """
    declared = getattr(module, "is_transposed", None)
    if declared is not None:
        return bool(declared)
    gate_up = module._parameters.get("gate_up_proj")
    if gate_up is None:
        return False
    _, rows, columns = module._parameters["down_proj"].shape
    return tuple(gate_up.shape[1:]) == (columns, 2 * rows)
