"""Op -> rule, for every op that no generated wrapper decides.

Names are written without the overload and without the underscore of the in-place form:
``masked_fill`` stands for ``masked_fill.Scalar``, ``masked_fill_.Tensor``, ``masked_fill.out``.
`EXACT` comes first and names one overload.

To add an op: find what its kernel does with devices (``aten/src/ATen/native``), pick the rule or
write one in a file of its own, enter the name here, add a case to
``tests/virtual/test_rules_ops.py`` and, where a GPU can show it, to ``test_rules_gpu.py``.
"""

from __future__ import annotations

from devplan.virtual.rules.attention import Attention
from devplan.virtual.rules.checked import checked_as
from devplan.virtual.rules.crossing import Crossing, OnCpu
from devplan.virtual.rules.indexing import MaskedFill, ReadIndexed, WriteIndexed
from devplan.virtual.rules.iterator import Elementwise, Pairwise, Where
from devplan.virtual.rules.rule import DeviceRule
from devplan.virtual.rules.worded import Convolution, Recurrent, Worded

_ELEMENTWISE = Elementwise()
_ELEMENTWISE_STRICT = Elementwise(num_excused=0, name="one device, scalars included (iterator)")
_INDEX_FILL = Elementwise(num_excused=0, ignored=("value",), name="index with the filled tensor")
_CROSSING = Crossing()
_BESIDE_OTHER = Crossing(follows="other")
_ATTENTION = Attention()
_RECURRENT = Recurrent()
_CAT = checked_as("cat", tensors="tensors")
_GRID = Worded(
    arguments=("input", "grid"),
    text=(
        "grid_sampler(): expected input and grid to be on same device, but input is on {input} "
        "and grid is on {grid}"
    ),
    source="aten/src/ATen/native/GridSamplerUtils.h check_grid_sampler_common",
)
_BATCH_NORM = checked_as(
    "_native_batch_norm",
    input="input",
    weight="weight",
    bias="bias",
    running_mean="running_mean",
    running_var="running_var",
)


def _each(names: str, rule: DeviceRule) -> dict[str, DeviceRule]:
    return dict.fromkeys(names.split(), rule)


FAMILIES: dict[str, DeviceRule] = {
    # Binary and ternary arithmetic, comparisons, bits: aten/src/ATen/native/BinaryOps.cpp,
    # PointwiseOps.cpp, Lerp.cpp; all configured with allow_cpu_scalars.
    **_each("add sub mul div rsub floor_divide fmod remainder pow atan2 hypot", _ELEMENTWISE),
    **_each("copysign xlogy heaviside ldexp lerp addcmul", _ELEMENTWISE),
    **_each("eq ne ge gt le lt maximum minimum fmax fmin", _ELEMENTWISE),
    **_each("bitwise_and bitwise_or bitwise_xor", _ELEMENTWISE),
    **_each("bitwise_left_shift bitwise_right_shift", _ELEMENTWISE),
    **_each("__lshift__ __ilshift__ __rshift__ __irshift__", _ELEMENTWISE),
    **_each("logical_and logical_or logical_xor", _ELEMENTWISE),
    **_each("special_xlog1py special_zeta", _ELEMENTWISE),
    **_each("special_chebyshev_polynomial_t special_chebyshev_polynomial_u", _ELEMENTWISE),
    **_each("special_chebyshev_polynomial_v special_chebyshev_polynomial_w", _ELEMENTWISE),
    **_each("special_hermite_polynomial_h special_hermite_polynomial_he", _ELEMENTWISE),
    **_each("special_laguerre_polynomial_l special_legendre_polynomial_p", _ELEMENTWISE),
    **_each("special_shifted_chebyshev_polynomial_t", _ELEMENTWISE),
    **_each("special_shifted_chebyshev_polynomial_u", _ELEMENTWISE),
    **_each("special_shifted_chebyshev_polynomial_v", _ELEMENTWISE),
    **_each("special_shifted_chebyshev_polynomial_w", _ELEMENTWISE),
    # Composed of those: Distance.cpp, Loss.cpp, Linear.cpp.
    **_each("dist allclose mse_loss smooth_l1_loss soft_margin_loss", _ELEMENTWISE),
    **_each("binary_cross_entropy_with_logits _trilinear", _ELEMENTWISE),
    # Iterators that allow no CPU scalar: TensorFactories.cpp complex_out, PointwiseOps.cpp
    # addcdiv (unlike addcmul beside it), Loss.cu.
    "addcdiv": _ELEMENTWISE_STRICT,
    **_each("complex polar binary_cross_entropy binomial", _ELEMENTWISE_STRICT),
    "where": Where(),
    # Advanced indexing.
    **_each("index _unsafe_index", ReadIndexed()),
    **_each("index_put _index_put_impl _unsafe_index_put", WriteIndexed()),
    "masked_fill": MaskedFill(),
    # Composites of one checked op: Embedding.cpp, TensorShape.cpp, Blas.cpp, Normalization.cpp.
    "embedding": checked_as("_index_select", weight="self", indices="index"),
    **_each("stack _stack", _CAT),
    "mv": checked_as("addmv_", vec="self", self="mat"),
    "masked_scatter": checked_as("_masked_scatter_", self="self", mask="mask", source="source"),
    "put": checked_as("_put_", self="self", index="index", source="source"),
    **_each("_native_batch_norm_legit_no_training _batch_norm_no_update", _BATCH_NORM),
    **_each("convolution_overrideable conv_tbc", Convolution()),
    **_each("convolution _convolution mkldnn_convolution", Convolution()),
    **_each("grid_sampler grid_sampler_2d grid_sampler_3d", _GRID),
    **_each("lstm gru rnn_tanh rnn_relu _cudnn_rnn mkldnn_rnn_layer", _RECURRENT),
    # Attention: the function and every kernel.
    **_each("scaled_dot_product_attention _scaled_dot_product_attention_math", _ATTENTION),
    **_each("_scaled_dot_product_flash_attention _scaled_dot_product_cudnn_attention", _ATTENTION),
    **_each("_scaled_dot_product_efficient_attention", _ATTENTION),
    **_each("_scaled_dot_product_flash_attention_for_cpu", _ATTENTION),
    **_each("_scaled_dot_product_attention_math_for_mps", _ATTENTION),
    **_each("_scaled_dot_product_fused_attention_overrideable", _ATTENTION),
    # What crosses devices, and what reads sizes or numbers only.
    **_each("copy _copy_from _copy_from_and_resize _foreach_copy", _CROSSING),
    **_each("slice_scatter select_scatter diagonal_scatter as_strided_scatter", _CROSSING),
    **_each("fill bernoulli linspace logspace randint_like", _CROSSING),
    **_each("is_same_size is_set_to resize_as _has_same_storage_numel", _CROSSING),
    **_each("expand_as view_as reshape_as", _CROSSING),
    **_each("type_as to", _BESIDE_OTHER),
    "_pack_padded_sequence": OnCpu(
        argument="lengths",
        text=(
            "'lengths' argument should be a 1D CPU int64 tensor, but got {dims}D {device} Long "
            "tensor"
        ),
    ),
}

EXACT: dict[str, DeviceRule] = {
    # The value is read with item(), the index goes through an iterator.
    "index_fill_.int_Scalar": _ELEMENTWISE_STRICT,
    "index_fill.int_Scalar": _ELEMENTWISE_STRICT,
    "index_fill_.int_Tensor": _INDEX_FILL,
    "index_fill.int_Tensor": _INDEX_FILL,
    "addr_": checked_as("_addr", self="self", vec1="vec1", vec2="vec2"),
    # The functional form is checked by its wrapper, this one iterates: TensorCompare.cpp.
    "clamp.Tensor_out": _ELEMENTWISE_STRICT,
    "clamp_max.Tensor_out": _ELEMENTWISE,
    "clamp_min.Tensor_out": _ELEMENTWISE,
    "set_.source_Tensor": Worded(
        arguments=("self", "source"),
        text=(
            'Attempted to set the storage of a tensor on device "{self}" to a storage on '
            'different device "{source}".  This is no longer allowed; the devices must match.'
        ),
        source="aten/src/ATen/native/Resize.h checkSetStorage",
    ),
}

FOREACH = Pairwise()
OUT_ONLY = _ELEMENTWISE_STRICT
"""For an op of one tensor and its ``out``: reductions and unary ops, which iterate."""
