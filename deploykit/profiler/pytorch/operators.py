"""`formula_of` gives the multiply-accumulates of a call of a torch operator, `classify` the class of one without a formula.

The engine is torch's own table (`torch.utils.flop_counter.flop_registry`, which counts 2 per multiply-accumulate); the
formulas below are the ones it lacks. An operator without a formula is *movement* (no arithmetic), *arithmetic* (known, and
outside the conventions' definition) or *unknown*: unknown ones are reported by name, never taken for zero in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

OperatorClass = Literal["movement", "arithmetic", "unknown"]
OperatorFormula = Callable[..., int]

FORMULAS: dict[str, OperatorFormula] = {}
"""Multiply-accumulates by operator name, called with the operator's own arguments and `out`, its result."""


def _shape(value: Any) -> Any:
    return value.shape if isinstance(value, Tensor) else value


@cache
def classify(operator: Any) -> OperatorClass:
    """The class of an operator that has no formula."""
    stem = name_of(operator).removeprefix("aten::").strip("_")
    if stem in _MOVEMENT or getattr(operator, "is_view", False):
        return "movement"
    if stem in _ARITHMETIC or stem.startswith(_ARITHMETIC_FAMILIES) or _elementwise(stem):
        return "arithmetic"
    tags = getattr(operator, "tags", ())
    return "arithmetic" if torch.Tag.pointwise in tags or torch.Tag.reduction in tags else "unknown"


@cache
def formula_of(operator: Any) -> OperatorFormula | None:
    """Multiply-accumulates of one call, or `None` where there is no formula."""
    name = name_of(operator)
    own = FORMULAS.get(name) or FORMULAS.get(name.removesuffix("_"))
    if own is not None:
        return own
    theirs = flop_registry.get(getattr(operator, "_overloadpacket", operator))
    if theirs is None and name.startswith("aten::") and name.endswith("_"):
        theirs = flop_registry.get(getattr(torch.ops.aten, name[6:-1], None))
    if theirs is None:
        return None
    on_shapes = getattr(theirs, "__wrapped__", None)
    if on_shapes is None:  # a formula that wants the tensors themselves
        return lambda *args, out, **kwargs: int(theirs(*args, **kwargs, out_val=out)) // 2
    # torch's wrapper turns tensors into shapes at any depth, slowly; the arguments of these operators are flat.
    return lambda *args, out, **kwargs: (
        int(on_shapes(*map(_shape, args), out_shape=_shape(out), **{k: _shape(v) for k, v in kwargs.items()})) // 2
    )


def name_of(operator: Any) -> str:
    """``aten::relu`` for every overload of it; the plain name of a higher-order operator."""
    schema = getattr(operator, "_schema", None)
    return schema.name if schema is not None else str(getattr(operator, "name", lambda: operator)())


def _elementwise(stem: str) -> bool:
    """Whether torch says so of any overload: it tags `div.Tensor` but not `div.Scalar_mode`."""
    packet = getattr(torch.ops.aten, stem, None)
    if packet is None:
        return False
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in packet.overloads())


def formula_for(name: str) -> Callable[[OperatorFormula], OperatorFormula]:
    """Register the formula of one operator, by the name that `name_of` gives."""

    def decorate(function: OperatorFormula) -> OperatorFormula:
        if name in FORMULAS:
            raise ValueError(f"{name} has two formulas")
        FORMULAS[name] = function
        return function

    return decorate


@formula_for("aten::mv")
def _mv(matrix: Tensor, *_: Any, **__: Any) -> int:
    return matrix.numel()


@formula_for("aten::addmv")
def _addmv(_: Tensor, matrix: Tensor, *__: Any, **___: Any) -> int:
    return matrix.numel()


@formula_for("aten::dot")
def _dot(a: Tensor, *_: Any, **__: Any) -> int:
    return a.numel()


@formula_for("aten::vdot")
def _vdot(a: Tensor, *_: Any, **__: Any) -> int:
    return a.numel()


@formula_for("aten::addbmm")
def _addbmm(_: Tensor, a: Tensor, b: Tensor, *__: Any, **___: Any) -> int:
    return a.numel() * b.shape[2]


@formula_for("aten::_int_mm")
def _int_mm(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return a.numel() * b.shape[1]


@formula_for("aten::_trilinear")
def _trilinear(a: Tensor, b: Tensor, c: Tensor, expand1: Sequence[int], expand2: Sequence[int], expand3: Sequence[int],
               *_: Any, **__: Any) -> int:  # fmt: skip
    """nn.Bilinear: every element of the broadcast product a*b*c is one multiply-accumulate with `b`, as in aten's definition."""
    shapes = []
    for tensor, expand in ((a, expand1), (b, expand2), (c, expand3)):
        for axis in expand:
            tensor = tensor.unsqueeze(axis)
        shapes.append(tensor.shape)
    return prod(torch.broadcast_shapes(*shapes))


@formula_for("aten::linear")
@formula_for("aten::mkldnn_linear")
def _linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    return x.numel() * weight.shape[0]


@formula_for("aten::mkldnn_convolution")
def _mkldnn_convolution(_: Tensor, weight: Tensor, *__: Any, out: Tensor, **___: Any) -> int:
    return out.numel() * prod(weight.shape[1:])


@formula_for("aten::mkldnn_rnn_layer")
def _mkldnn_rnn_layer(x: Tensor, w_input: Tensor, w_hidden: Tensor, *_: Any, **__: Any) -> int:
    """One layer and direction of an LSTM: both weights are applied at every step, (steps, batch, features) in."""
    return x.shape[0] * x.shape[1] * (w_input.numel() + w_hidden.numel())


@formula_for("aten::_scaled_dot_product_fused_attention_overrideable")
def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> int:
    scores = query.numel() * key.shape[-2]
    return scores + prod(query.shape[:-1]) * key.shape[-2] * value.shape[-1]


@formula_for("torchvision::deform_conv2d")
def _deform_conv2d(_: Tensor, weight: Tensor, *__: Any, out: Tensor, **___: Any) -> int:
    return out.numel() * prod(weight.shape[1:])


# Without the underscores that aten puts around a name: `_to_copy`, `copy_`.
_MOVEMENT = frozenset(
    """
    alias arange as_strided assert_async assert_scalar assert_tensor_metadata broadcast_tensors cat channel_shuffle
    chunk clone constant_pad_nd contiguous copy detach diag_embed diagonal_copy efficientzerotensor embedding
    empty empty_like empty_permuted empty_strided expand_copy eye fill flip full full_like functional_assert_async gather
    im2col index index_copy index_fill index_put index_select lift_fresh lift_fresh_copy linspace local_scalar_dense
    masked_fill masked_scatter masked_select new_empty new_empty_strided new_full new_ones new_zeros nonzero
    nonzero_static one_hot ones ones_like permute_copy pixel_shuffle pixel_unshuffle put reflection_pad1d reflection_pad2d
    reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d replication_pad3d reshape_alias
    reshape_copy resize resize_as roll rot90 scalar_tensor scatter select_backward select_scatter set slice_scatter split
    split_with_sizes split_with_sizes_copy stack sym_numel sym_size sym_storage_offset sym_stride take to_copy
    transpose_copy tril tril_indices triu triu_indices unbind_copy unfold_copy unsafe_index unsafe_index_put unsafe_split
    unsafe_split_with_sizes unsafe_view unsqueeze_copy view_copy where zero zeros zeros_like pin_memory is_pinned
    sparse_mask alias_copy as_strided_copy as_strided_scatter block_diag chunk_cat complex conj_copy detach_copy
    diagonal_scatter fused_sdp_choice is_same_size isin lazy_clone lift linalg_check_errors logspace mkldnn_reshape
    mkldnn_transpose narrow_copy neg_view_copy pack_padded_sequence range reshape_alias_copy resize_output select_copy
    slice_copy split_copy squeeze_copy sym_constrain_range sym_constrain_range_for_size t_copy to_dense to_mkldnn
    values_copy view_as_complex_copy view_as_real_copy print
    squeeze t transpose unsqueeze view_as_complex view_as_real
    """.split()  # noqa: SIM905
)

# Arithmetic that multiplies and accumulates nothing in the sense of a convolution, a linear layer, a product or attention.
_ARITHMETIC = frozenset(
    """
    affine_grid_generator allclose aminmax argmax argmin argsort batch_norm_impl_index bernoulli bincount bucketize
    cdist_forward celu col2im count_nonzero cummax_helper cummin_helper cumprod cumsum dist dropout elu
    embedding_bag embedding_bag_forward_only equal exponential feature_dropout fft_c2c fft_c2r fft_r2c fractional_max_pool2d
    fractional_max_pool3d fused_dropout fused_rms_norm geometric glu gelu grid_sampler_2d grid_sampler_2d_cpu_fallback
    grid_sampler_3d group_norm hardshrink hardsigmoid hardswish hardtanh histc index_add index_reduce instance_norm
    is_all_true is_any_true kthvalue layer_norm leaky_relu linalg_vector_norm log_softmax logcumsumexp
    logsumexp max median min mish mode multinomial nanmedian native_batch_norm native_batch_norm_legit
    native_batch_norm_legit_no_training native_dropout native_group_norm native_layer_norm norm normal normal_functional
    pairwise_distance poisson prelu prelu_kernel prod rand rand_like randint randint_like randn randn_like random randperm
    relu relu6 renorm rrelu_with_noise rrelu_with_noise_functional scatter_add scatter_reduce searchsorted segment_reduce
    selu silu softmax softplus softshrink sort std std_mean sum thnn_fused_gru_cell
    thnn_fused_lstm_cell threshold topk uniform unique unique2 unique_consecutive unique_dim var var_mean weight_norm
    weight_norm_interface pdist_forward batch_norm_with_update batch_norm_no_update cudnn_batch_norm miopen_batch_norm
    amax amin any all mean nansum addr bartlett_window binary_cross_entropy binary_cross_entropy_with_logits blackman_window
    cauchy ctc_loss cummax cummin dequantize euclidean_dist fake_quantize_learnable_per_channel_affine
    fake_quantize_learnable_per_tensor_affine fake_quantize_per_channel_affine_cachemask
    fake_quantize_per_tensor_affine_cachemask fft_fftfreq fft_rfftfreq hamming_window hann_window histogram huber_loss
    kaiser_window log_sigmoid_forward masked_softmax max_unpool2d max_unpool3d mkldnn_adaptive_avg_pool2d mse_loss
    multi_margin_loss multilabel_margin_loss_forward nll_loss2d_forward nll_loss_forward polar quantize_per_channel
    quantize_per_tensor quantize_per_tensor_dynamic safe_softmax smooth_l1_loss soft_margin_loss sparse_softmax trace
    transform_bias_rescale_qkv floor_divide native_norm linalg_cross
    """.split()  # noqa: SIM905
)
_ARITHMETIC_FAMILIES = ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "foreach", "max_pool", "mkldnn_max_pool", "upsample")
