"""The `paddle` convention for modules of torch: a formula per type of layer, and 0 for the rest, as `paddle.flops` does."""

from __future__ import annotations

from math import prod

from torch import nn

from deploykit.profiler import conventions
from deploykit.profiler.pytorch.tracing import Call

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE_AVERAGE_POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
# Free in paddle's own table; for every other type without a formula it warns.
FREE = (nn.ReLU, nn.ReLU6, nn.Dropout, nn.Flatten, nn.Identity, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


def layer_ops(call: Call) -> int | None:
    """The operations of one call of a leaf module; `None` where paddle has no formula and takes it for 0."""
    layer, outputs = call.module, prod(call.output_shape or (0,))
    if isinstance(layer, CONVOLUTIONS):
        window = layer.in_channels // layer.groups * prod(layer.kernel_size)
        return conventions.paddle_convolution(outputs, window, layer.bias is not None)
    if isinstance(layer, nn.Linear):
        return conventions.paddle_linear(outputs, layer.in_features)
    if isinstance(layer, nn.BatchNorm2d):
        return conventions.paddle_batch_norm(prod(call.input_shape or (0,)))
    if isinstance(layer, AVERAGE_POOLS):
        return conventions.paddle_average_pool(outputs)
    if isinstance(layer, ADAPTIVE_AVERAGE_POOLS):
        return conventions.paddle_adaptive_average_pool(call.input_shape or (), call.output_shape or ())
    if isinstance(layer, nn.LeakyReLU):
        return conventions.paddle_leaky_relu(outputs)
    return 0 if isinstance(layer, FREE) else None
