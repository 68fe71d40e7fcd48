"""The small constants of a file: numbers that it may compare sizes or values with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from deploykit.onnx_file import external_data, walk
from deploykit.verdict.deployed import Deployed

MOST_ELEMENTS = 16  # of a constant that is looked at
SAME_VALUE = frozenset({"Cast", "CastLike", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten"})
WRITTEN_OUT = ("value_int", "value_float", "value_ints", "value_floats")


def small(deployed: Deployed) -> dict[str, NDArray[Any]]:
    """The constants of at most `MOST_ELEMENTS` elements by name, also behind operators that keep their numbers.

    Those in bodies and functions are among them. A cast keeps the numbers as they were stored: 2.5 stays 2.5.
    """
    found: dict[str, NDArray[Any]] = {}
    for graph in walk.graphs(deployed.model):
        for tensor in graph.initializer:
            _keep(found, tensor.name, tensor, deployed)
    for node in walk.nodes(deployed.model):
        if not node.output:
            continue
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    _keep(found, node.output[0], attribute.t, deployed)
                elif attribute.name in WRITTEN_OUT:
                    value = np.asarray(onnx.helper.get_attribute_value(attribute))
                    if value.size <= MOST_ELEMENTS:
                        found[node.output[0]] = value
        elif node.op_type in SAME_VALUE and node.input and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def _keep(found: dict[str, NDArray[Any]], name: str, tensor: onnx.TensorProto, deployed: Deployed) -> None:
    if math.prod(tensor.dims) <= MOST_ELEMENTS and (array := external_data.array(tensor, deployed.folder)) is not None:
        found[name] = array
