"""Put the preprocessing in front of a graph, and take it off again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from deploykit.errors import ExportError, ModelFileError
from deploykit.onnx_file import inputs, walk
from deploykit.onnx_file.inputs import GraphInput
from deploykit.onnx_file.preprocessing.builder import Builder
from deploykit.onnx_file.preprocessing.resize import Axis, exists, resize
from deploykit.runtime.contract import ImageInput

PREFIX = "preprocessing"
HEIGHT, WIDTH = "image_height", "image_width"


@dataclass(frozen=True)
class Parts:
    """A file without its preprocessing: `core` takes what the network takes; `boundary` is the name of that value in the file."""

    core: onnx.ModelProto
    boundary: str


def embed(model: onnx.ModelProto, rules: ImageInput) -> onnx.ModelProto:
    """A copy of `model` whose only input is uint8 (batch, height, width, channels), images of any size, upright, 8 bits.

    The result of the preprocessing is the value ``preprocessing``, its nodes are ``preprocessing/...``. Raises `ExportError`
    where the graph's input is not the image that `rules` make.
    """
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    graph = whole.graph
    network_input = _only_input(graph)
    _check(inputs.described(graph)[0], rules)
    prefix = _free_prefix(graph)
    b = Builder(prefix)
    name = network_input.name
    pixels = _pixels(b, name, rules)
    _normalized(b, pixels, rules, prefix, network_input.type.tensor_type.elem_type)
    _rename_uses(graph, name, prefix)
    core_nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*b.nodes, *core_nodes])
    graph.initializer.extend(b.constants.values())
    boundary = graph.value_info.add()
    boundary.CopyFrom(network_input)
    boundary.name = prefix
    batch = network_input.type.tensor_type.shape.dim[0]
    network_input.CopyFrom(helper.make_tensor_value_info(name, TensorProto.UINT8, [None, HEIGHT, WIDTH, rules.channels]))
    network_input.type.tensor_type.shape.dim[0].CopyFrom(batch)
    return whole


def split(model: onnx.ModelProto) -> Parts:
    """Take the preprocessing that `embed` wrote off a copy of `model`. Raises `ModelFileError` where there is none."""
    core = onnx.ModelProto()
    core.CopyFrom(model)
    graph = core.graph
    graph_input = next(iter(inputs.of_graph(graph)), None)
    prefix = _prefix_of(graph)
    known = {value.name: value for value in graph.value_info}
    if graph_input is None or prefix not in known or all(prefix not in node.output for node in graph.node):
        raise ModelFileError("the preprocessing that the contract promises is not in the graph", "export the network again")
    name = graph_input.name
    graph_input.CopyFrom(known[prefix])
    graph_input.name = name
    repeated: Any
    for repeated in (graph.node, graph.initializer, graph.value_info):
        kept = [part for part in repeated if part.name != prefix and not part.name.startswith(f"{prefix}/")]
        del repeated[:]
        repeated.extend(kept)
    _rename_uses(graph, prefix, name)
    return Parts(core, prefix)


def _pixels(b: Builder, image: str, rules: ImageInput) -> str:
    """uint8 (batch, height, width, channels) of any size -> uint8 (batch, channels, rules.height, rules.width)."""
    pixels = b.op("Transpose", image, perm=[0, 3, 1, 2])
    size = b.op("Shape", image, start=1, end=3)
    have = {name: b.op("Gather", size, b.number(index, np.int64)) for index, name in enumerate(("height", "width"))}
    height = _axis(b.within("height"), have, "height", rules.height, rules)
    width = _axis(b.within("width"), have, "width", rules.width, rules)
    found = resize(b, pixels, height, width, rules.interpolation)
    if rules.order == "bgr":
        found = b.op("Gather", found, b.numbers(2, 1, 0), axis=1)
    return _padded(b, found, height, width, rules) if rules.fit == "letterbox" and any(rules.padding) else found


def _padded(b: Builder, pixels: str, height: Axis, width: Axis, rules: ImageInput) -> str:
    """With the colour of the padding wherever no pixel of the image lies."""
    down = b.op("Unsqueeze", exists(b.within("height"), height), b.numbers(1))
    inside = b.op("And", down, exists(b.within("width"), width))
    colour = np.broadcast_to(np.asarray(rules.padding, np.uint8), (rules.channels,))
    return b.op("Where", inside, pixels, b.array(colour[:, None, None].copy(), "padding"))


def _axis(b: Builder, have: dict[str, str], name: str, count: int, rules: ImageInput) -> Axis:
    if rules.fit == "stretch":
        return Axis(have[name], b.number(count, np.int64), b.number(0, np.int64), count, padded=False)
    if rules.fit == "letterbox":
        return _letterboxed(b, have, name, count, rules)
    # The shorter side becomes `resize`, the other one is cut down to an integer. The offset is half of what is left over, rounded
    # half to even; half of what is missing, cut down. See `runtime.preprocessing`.
    side = rules.resize or 0
    shorter = b.op("Min", have["height"], have["width"])
    resized = b.op("Div", b.op("Mul", have[name], b.number(side, np.int64)), shorter)
    margin = b.op("Sub", resized, b.number(count, np.int64))
    first = b.cast(b.op("Round", b.op("Mul", b.cast(margin, np.float64), b.number(0.5))), np.int64)
    if side < count:
        missing = b.op("Less", margin, b.number(0, np.int64))
        first = b.op("Where", missing, b.op("Div", margin, b.number(2, np.int64)), first)  # Div cuts towards zero
    return Axis(have[name], resized, first, count, padded=side < count)


def _letterboxed(b: Builder, have: dict[str, str], name: str, count: int, rules: ImageInput) -> Axis:
    """One side is that of the input, the other keeps the ratio, half a pixel rounded up; see `runtime.geometry`."""
    other, opposite = ("height", rules.height) if name == "width" else ("width", rules.width)
    two, own, theirs = b.number(2, np.int64), b.number(count, np.int64), b.number(opposite, np.int64)
    # The input's sides crosswise with the image's: which of them the image meets first.
    mine, others = b.op("Mul", own, have[other]), b.op("Mul", theirs, have[name])
    first = b.op("LessOrEqual" if name == "width" else "Less", mine, others)
    twice = b.op("Mul", two, have[other])
    kept = b.op("Div", b.op("Add", b.op("Mul", two, others), have[other]), twice)
    resized = b.op("Where", first, own, b.op("Max", kept, b.number(1, np.int64)))
    begin = b.number(0, np.int64)
    if rules.placement == "center":
        begin = b.op("Div", b.op("Sub", resized, own), two)  # Div cuts towards zero
    return Axis(have[name], resized, begin, count, padded=True)


def _normalized(b: Builder, pixels: str, rules: ImageInput, output: str, elem_type: int) -> None:
    """Scale, subtract mean, divide by std, folded into one factor and one offset per channel, as `normalize` does."""
    std = np.asarray(rules.std, np.float32)
    factor = np.float32(rules.scale) / std
    offset = (np.asarray(rules.mean, np.float32) / std).astype(np.float32)
    scaled = b.op("Mul", b.cast(pixels, np.float32), b.array(factor[:, None, None], "factor"))
    is_half = elem_type != TensorProto.FLOAT
    found = b.op("Sub", scaled, b.array(offset[:, None, None], "offset"), output=None if is_half else output)
    if is_half:
        b.op("Cast", found, output=output, to=elem_type)


def _check(network_input: GraphInput, rules: ImageInput) -> None:
    sizes = [axis if isinstance(axis, int) else None for axis in network_input.axes or ()]
    wanted = (None, rules.channels, rules.height, rules.width)
    fits = len(sizes) == len(wanted) and all(want is None or have in (None, want) for have, want in zip(sizes, wanted, strict=True))
    if not fits or network_input.dtype not in (np.float32, np.float16):
        raise ExportError(
            f"the preprocessing cannot be put in front of the input {network_input.name!r}: it does not take the contract's images",
            "export without --with-preprocessing",
        )


def _only_input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    found = inputs.of_graph(graph)
    if len(found) != 1:
        raise ExportError(f"a network with {len(found)} inputs cannot have its preprocessing in the graph", "export without it")
    return found[0]


def _free_prefix(graph: onnx.GraphProto) -> str:
    """`preprocessing`, or with a number where the network itself has a module of that name."""
    taken = {name.split("/")[0] for name in walk.names(graph)}
    prefix, count = PREFIX, 0
    while prefix in taken:
        count += 1
        prefix = f"{PREFIX}_{count}"
    return prefix


def _prefix_of(graph: onnx.GraphProto) -> str:
    """The prefix of the node that takes the image; "" where it has none."""
    names = {value.name for value in inputs.of_graph(graph)}
    return next((node.name.split("/")[0] for node in graph.node if names & set(node.input) and "/" in node.name), "")


def _rename_uses(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every node that takes `old` take `new`, bodies of loops and branches included."""
    for node in walk.nodes(graph):
        node.input[:] = [new if name == old else name for name in node.input]
