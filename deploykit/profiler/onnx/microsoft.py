"""Operators of other domains: com.microsoft, which onnxruntime's optimizer and quantizer write into files, and ai.onnx.ml.

Source: docs/ContribOperators.md of onnxruntime. Those without a formula that are known to multiply and accumulate nothing are
`FREE`; the rest are reported as uncounted.
"""

from __future__ import annotations

from math import prod

from deploykit.profiler.onnx.operators import Node, UnknownShape, formula_for

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
) | frozenset(
    f"ai.onnx.ml.{name}"
    for name in """
    ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder Normalizer
    OneHotEncoder Scaler TreeEnsemble TreeEnsembleClassifier TreeEnsembleRegressor ZipMap
    """.split()  # noqa: SIM905
)


@formula_for("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul")
def _transposed_product(node: Node) -> int:
    """A is (..., M, K); (..., K, M) with transA; with transBatchA, M (or K) is the first axis instead of the second to last."""
    a, attributes = node.shape(0), node.attributes
    if not attributes.get("transA") or len(a) == 1:
        return prod(node.output) * a[-1]
    return prod(node.output) * a[0 if attributes.get("transBatchA") else -2]


@formula_for(
    "com.microsoft.FusedMatMulActivation", "com.microsoft.GemmFastGelu", "com.microsoft.MatMulFpQ4",
    "com.microsoft.MatMulInteger16", "com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat",
)  # fmt: skip
def _product(node: Node) -> int:
    return prod(node.output) * node.shape(0)[-1]


@formula_for("com.microsoft.DynamicQuantizeLSTM")
def _recurrent(node: Node) -> int:
    """X (steps, batch, features) by both weights, which are the other way round than those of LSTM: nothing here sees that."""
    return prod(node.shape(0)[:2]) * (prod(node.shape(1)) + prod(node.shape(2)))


@formula_for("com.microsoft.NhwcConv", "com.microsoft.nchwc.Conv")
def _conv(node: Node) -> int:
    return prod(node.output) * prod(node.shape(1)[1:])


@formula_for("com.microsoft.QLinearConv")
def _quantized_conv(node: Node) -> int:
    return prod(node.output) * prod(node.shape(3)[1:])


@formula_for("com.microsoft.ConvTransposeWithDynamicPads")
def _transposed_conv(node: Node) -> int:
    return prod(node.shape(0)) * prod(node.shape(1)[1:])


@formula_for("com.microsoft.QGemm")
def _gemm(node: Node) -> int:
    a = node.shape(0)
    return prod(node.output) * (a[0] if node.attributes.get("transA") else a[1])


@formula_for("com.microsoft.MatMulNBits", "com.microsoft.MatMulBnb4")
def _packed_product(node: Node) -> int:
    """A (..., K) by a packed matrix of K x N, whose sizes are attributes."""
    return prod(node.shape(0)[:-1]) * int(node.attributes["K"]) * int(node.attributes["N"])


@formula_for("com.microsoft.MatMulNBitsMlp")
def _packed_gate(node: Node) -> int:
    """A (..., K) by two packed matrices of K x N."""
    return 2 * _packed_product(node)


@formula_for("com.microsoft.MatMulNBitsQkv")
def _packed_projections(node: Node) -> int:
    """A (..., K) by three packed matrices: K x Nq, and K x Nkv twice."""
    columns = int(node.attributes["Nq"]) + 2 * int(node.attributes["Nkv"])
    return prod(node.shape(0)[:-1]) * int(node.attributes["K"]) * columns


@formula_for("com.microsoft.Attention")
def _projected_attention(node: Node) -> int:
    """X (batch, steps, size) by one matrix of Q, K and V together, then scores and values; the past is input 4."""
    return _projected(node, past=4)


@formula_for("com.microsoft.QAttention")
def _quantized_attention(node: Node) -> int:
    """The same with scales and zero points as inputs 3, 4, 6 and 7; the past is input 8."""
    return _projected(node, past=8)


def _projected(node: Node, past: int) -> int:
    """The past is (2, batch, heads, steps, size per head), or a buffer whose used part only the run knows."""
    if node.given(past) and node.attributes.get("past_present_share_buffer"):
        raise UnknownShape
    batch, steps, _ = node.shape(0)
    rows, columns = node.shape(1)
    query, _, value = node.attributes.get("qkv_hidden_sizes") or [columns // 3] * 3
    return batch * steps * (rows * columns + (steps + node.length(past)) * (query + value))


@formula_for("com.microsoft.MultiHeadAttention")
def _attention(node: Node) -> int:
    """Q (batch, steps, size), K and V (batch, steps, size) or (batch, heads, steps, size per head); scores and values.

    Q may hold all three, packed as (batch, steps, heads, 3, size per head), or K both, as (batch, steps, heads, 2, size per
    head). The past keys are input 6, (batch, heads, steps, size per head); where input 8 says how many of them are in use,
    only the run knows.
    """
    if node.given(8):
        raise UnknownShape
    query, past = node.shape(0), node.length(6)
    if len(query) == 5:
        batch, steps, heads, _, size = query
        return 2 * batch * steps * (steps + past) * heads * size
    key = node.shape(1)
    if len(key) == 5:
        return 2 * prod(query) * (key[1] + past)
    value = node.shape(2)
    values = value[-1] * (value[1] if len(value) == 4 else 1)
    return query[0] * query[1] * (key[-2] + past) * (query[2] + values)


@formula_for("com.microsoft.GroupQueryAttention")
def _grouped_attention(node: Node) -> int:
    """Q (batch, steps, size), or Q, K and V side by side in it; past keys, input 3, are (batch, groups, steps, size per head).

    All past keys count. Those of a cache that is a sliding window are uncounted: how full it is only the run knows.
    """
    if node.attributes.get("sliding_window_cache"):
        raise UnknownShape
    heads, groups = int(node.attributes["num_heads"]), int(node.attributes["kv_num_heads"])
    batch, steps, hidden = node.shape(0)
    packed = not node.given(1)
    size = hidden // (heads + 2 * groups) if packed else hidden // heads
    keys = (steps if packed else node.shape(1)[1]) + node.length(3)
    return 2 * batch * steps * keys * heads * size
