"""Whether the time of a run hangs on the shapes of what it is given alone: then one that was quick will be quick again.

That is only about how much there is to compute. What a processor takes for a number may hang on the number (see `pace`).
"""

from __future__ import annotations

from collections.abc import Iterable

# Where every input is of floats and none of these operators makes int32 or int64 of them (but MaxPool the places of the largest),
# such numbers come from the file and from shapes alone: so nobody says how far something reaches, along which axes it goes or how
# long a sequence is. The names are of ONNX's own operators (https://onnx.ai/onnx/operators). Those are missing that go round for as
# long as a value says (Loop), choose by one (If, Where), turn floats into something else (Cast, ArgMax, Less) or make as much as
# they are told (Range, Expand, Tile, Resize), and whatever is not known here.
STEADY = frozenset((
    "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "BatchNormalization", "Ceil", "Celu",
    "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "Cos", "Cosh", "DepthToSpace", "DequantizeLinear", "Div", "Elu",
    "Erf", "Exp", "Flatten", "Floor", "GRU", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LRN", "LSTM", "LayerNormalization",
    "LeakyRelu", "Log", "LogSoftmax", "LpNormalization", "LpPool", "MatMul", "Max", "MaxPool", "Mean",
    "MeanVarianceNormalization", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "RMSNormalization", "RNN", "Reciprocal", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "Relu", "Reshape", "Round", "Selu", "Shape",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split", "Sqrt",
    "Squeeze", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Transpose", "Unsqueeze",
))  # fmt: skip
FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(bfloat16)", "tensor(double)"})


def is_steady(operators: Iterable[tuple[str, str]], inputs: Iterable[str]) -> bool:
    """Whether a network does as much work as the shapes of what it is given say, whatever stands in it.

    `operators`: the domain ("" for ONNX's own) and the name of each; `inputs`: their types, as onnxruntime writes them.
    """
    return all(domain == "" and name in STEADY for domain, name in operators) and all(kind in FLOATS for kind in inputs)
