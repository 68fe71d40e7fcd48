"""How many samples a file takes at once."""

from __future__ import annotations

import onnx

from deploykit.onnx_file import inputs as graph_inputs


def fixed_batch(model: onnx.ModelProto) -> int | None:
    """The only batch size that the file takes, `None` where any goes."""
    return graph_inputs.fixed_batch(graph_inputs.of_graph(model.graph))
