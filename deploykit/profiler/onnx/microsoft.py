"""Operators of the domain com.microsoft, which onnxruntime's own optimizer and quantizer write into files.

Source: docs/ContribOperators.md of onnxruntime. Those without a formula that are known to multiply and accumulate nothing are
`FREE`; the rest are reported as uncounted.
"""

from __future__ import annotations

from math import prod

from deploykit.profiler.onnx.operators import Node, UnknownShape, macs

FREE = frozenset(
    f"com.microsoft.{name}"
    for name in """
    BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu BitmaskBiasDropout BitmaskDropout CropAndResize DequantizeLinear
    DynamicQuantizeLinear EmbedLayerNormalization ExpandDims FastGelu GatherBlockQuantized GatherND Gelu GemmaRotaryEmbedding
    GroupNorm IsAllFinite LayerNormalization MaxpoolWithMask NhwcMaxPool Pad QEmbedLayerNormalization QLinearAdd
    QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid
    QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range ReduceSumInteger RelativePositionBias RemovePadding
    ReorderInput ReorderOutput RestorePadding RotaryEmbedding SimplifiedLayerNormalization SkipGroupNorm
    SkipLayerNormalization SkipSimplifiedLayerNormalization Tokenizer TorchEmbedding Trilu Unique
    """.split()  # noqa: SIM905
)


@macs("com.microsoft.TransposeMatMul", "com.microsoft.MatMulIntegerToFloat", "com.microsoft.DynamicQuantizeMatMul")
def _products(node: Node) -> int:
    return prod(node.output) * (node.shape(0)[-2] if node.attributes.get("transA") else node.shape(0)[-1])


@macs("com.microsoft.QGemm")
def _gemm(node: Node) -> int:
    a = node.shape(0)
    return prod(node.output) * (a[0] if node.attributes.get("transA") else a[1])


@macs("com.microsoft.MatMulNBits")
def _packed_product(node: Node) -> int:
    """A (..., K) by a packed matrix of K x N, whose sizes are attributes."""
    return prod(node.shape(0)[:-1]) * int(node.attributes["K"]) * int(node.attributes["N"])


@macs("com.microsoft.Attention", "com.microsoft.QAttention")
def _projected_attention(node: Node) -> int:
    """X (batch, steps, size) by one matrix of Q, K and V together, then scores and values; without a past."""
    batch, steps, _ = node.shape(0)
    rows, columns = node.shape(1)
    if len(node.inputs) > 4 and node.inputs[4] is not None:
        raise UnknownShape
    query, _, value = node.attributes.get("qkv_hidden_sizes") or [columns // 3] * 3
    return batch * steps * (rows * columns + steps * (query + value))


@macs("com.microsoft.MultiHeadAttention")
def _attention(node: Node) -> int:
    """Q (batch, steps, size), K and V (batch, steps, size) or (batch, heads, steps, size per head); scores and values.

    Q may hold all three, packed as (batch, steps, heads, 3, size per head).
    """
    query = node.shape(0)
    if len(query) == 5:
        batch, steps, heads, _, size = query
        return 2 * batch * steps * steps * heads * size
    key = node.shape(1)
    if len(key) == 5:  # K and V together
        return 2 * prod(query) * key[1]
    value = node.shape(2)
    size = value[-1] * (value[1] if len(value) == 4 else 1)
    return query[0] * query[1] * key[-2] * (query[2] + size)


@macs("com.microsoft.GroupQueryAttention")
def _grouped_attention(node: Node) -> int:
    """As far as the keys of this call go; a past is known to the run only."""
    heads, groups = int(node.attributes["num_heads"]), int(node.attributes["kv_num_heads"])
    batch, steps, hidden = node.shape(0)
    past = node.inputs[3][-2] if len(node.inputs) > 3 and node.inputs[3] else 0
    packed = len(node.inputs) < 2 or node.inputs[1] is None
    size = hidden // (heads + 2 * groups) if packed else hidden // heads
    return 2 * batch * steps * (steps + past) * heads * size
