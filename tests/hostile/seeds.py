"""Small good files of every kind that deploykit reads; the fuzzer makes bad ones of them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deploykit import architectures
from deploykit.network import checkpoint
from deploykit.runtime.contract import KEY, ArrayInput, Contract, ImageInput, Output

NETWORK = "cnn2"
IMAGE = ImageInput(channels=1, height=8, width=8)
VECTOR = ArrayInput((3, None))
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
_FLOAT, _INT64, _BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def write_all(folder: Path) -> dict[str, bytes]:
    """Every seed by its name; checkpoints need a folder for the moment of their making."""
    seeds: dict[str, bytes] = {"model.onnx": model().SerializeToString(), "flat.onnx": flat().SerializeToString()}
    seeds |= _checkpoints(folder) | _images() | _datasets()
    stream = io.BytesIO()
    np.save(stream, np.ones((3, 5), np.float32))
    seeds["vector.npy"] = stream.getvalue()
    seeds["contract.json"] = Contract(IMAGE, Output("softmax", tuple("0123456789"))).dumps().encode()
    return seeds


def flat() -> onnx.ModelProto:
    """Images -> scores with one matrix, for the runtime."""
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])],
        "flat",
        [helper.make_tensor_value_info("input", _FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", _FLOAT, ["batch", 10])],
        [_floats("w", 64, 10)],
    )
    return _finish(graph, Contract(IMAGE, Output("softmax", tuple("0123456789"))))


def model() -> onnx.ModelProto:
    """Two dozen operators, a loop with a body, and a contract: much for a parser to trip over."""
    body = helper.make_graph(
        [helper.make_node("Add", ["c", "c"], ["d"]), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [_value("step", _INT64), _value("go", _BOOL), _value("c", _FLOAT, "n", 8)],
        [_value("on", _BOOL), _value("d", _FLOAT, "n", 8)],
    )
    made = helper.make_node
    nodes = [
        made("Conv", ["input", "w", "b"], ["conv"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        made("BatchNormalization", ["conv", "b", "b", "b", "ones"], ["norm"]),
        made("Relu", ["norm"], ["relu"]),
        made("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
        made("AveragePool", ["pool"], ["mean"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
        made("ConvTranspose", ["mean", "wt"], ["up"], strides=[2, 2]),
        made("Resize", ["up", "", "scales"], ["sized"], mode="linear"),
        made("Transpose", ["sized"], ["last"], perm=[0, 2, 3, 1]),
        made("Slice", ["last", "zeros", "fours", "axes"], ["slice"]),
        made("Pad", ["slice", "pads"], ["pad"]),
        made("ReduceMean", ["pad", "axes"], ["reduced"], keepdims=0),
        made("Constant", [], ["shape"], value=_ints("", -1, 8)),
        made("Reshape", ["reduced", "shape"], ["rows"]),
        made("Gather", ["rows", "order"], ["mixed"], axis=1),
        made("LayerNormalization", ["mixed", "b"], ["normal"]),
        made("Gemm", ["normal", "square", "b"], ["gemm"], transB=1),
        made("Softmax", ["gemm"], ["soft"]),
        made("ConstantOfShape", ["one_by_one"], ["zero"]),
        made("Expand", ["zero", "one_by_eight"], ["wide"]),
        made("Add", ["soft", "wide"], ["sum"]),
        made("Concat", ["sum", "gemm"], ["both"], axis=1),
        made("Split", ["both"], ["left", "right"], axis=1, num_outputs=2),
        made("Einsum", ["left", "square"], ["product"], equation="ij,jk->ik"),
        made("Loop", ["trips", "", "product"], ["looped"], body=body),
        made("TopK", ["looped", "k"], ["best", "places"]),
        made("Where", ["flag", "looped", "right"], ["logits"]),
    ]
    weights = [
        _floats("w", 8, 1, 3, 3), _floats("b", 8), numpy_helper.from_array(np.ones(8, np.float32), "ones"),
        _floats("wt", 8, 8, 2, 2), numpy_helper.from_array(np.ones(4, np.float32), "scales"), _ints("zeros", 0, 0),
        _ints("fours", 4, 4), _ints("axes", 1, 2), _ints("pads", *[0] * 8), _ints("order", *range(8)), _floats("square", 8, 8),
        _ints("one_by_one", 1, 1), _ints("one_by_eight", 1, 8), numpy_helper.from_array(np.array(3, np.int64), "trips"),
        _ints("k", 3), numpy_helper.from_array(np.array(True), "flag"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [_value("input", _FLOAT, "batch", 1, 8, 8)], [_value("logits", _FLOAT, "batch", 8)], weights
    )
    return _finish(graph, Contract(IMAGE, Output("softmax", tuple("01234567"))))


def idx(values: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.astype(np.uint8).tobytes()


def safetensors(header: Any, data: bytes) -> bytes:
    """A safetensors file with any header, legal or not."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def _finish(graph: onnx.GraphProto, contract: Contract) -> onnx.ModelProto:
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(found, {KEY: contract.dumps()})
    onnx.checker.check_model(found, full_check=True)
    return found


def _value(name: str, kind: int, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def _floats(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(len(name)).normal(size=shape).astype(np.float32), name)


def _ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def _checkpoints(folder: Path) -> dict[str, bytes]:
    architecture = architectures.get(NETWORK)
    tensors = architecture.create().state_dict()
    whole = checkpoint.Checkpoint(NETWORK, dict(architecture.defaults), architecture.input, tensors, tuple("0123456789"))
    checkpoint.save_checkpoint(whole, folder / "seed.safetensors")
    torch.save(tensors, folder / "seed.pt")
    torch.save(tensors, folder / "old.pt", _use_new_zipfile_serialization=False)
    state = {"state": {"epoch": 1, "history": [{"epoch": 1, "loss": 0.5}]}, "tensors": {"network": tensors}}
    torch.save(state, folder / "resume.pt")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _images() -> dict[str, bytes]:
    pixels = np.random.default_rng(3).integers(0, 256, (16, 12, 3)).astype(np.uint8)
    found = {}
    for name in FORMATS:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, name)
        found[f"image.{name.lower()}"] = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(
        stream, "JPEG", progressive=True, exif=bytes.fromhex("45786966000049492a0008000000010012010300010000000600000000000000")
    )
    found["image.progressive.jpeg"] = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(pixels[..., 0]).convert("P").save(stream, "PNG", transparency=3)
    found["image.palette.png"] = stream.getvalue()
    return found


def _datasets() -> dict[str, bytes]:
    draw = np.random.default_rng(4)
    found = {}
    for images, labels, count in (
        ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", 24),
        ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte", 10),
    ):
        found[f"mnist/{images}.gz"] = gzip.compress(idx(draw.integers(0, 256, (count, 28, 28))), mtime=0)
        found[f"mnist/{labels}"] = idx(np.arange(count) % 10)
    for name in (*(f"data_batch_{n}" for n in range(1, 3)), "test_batch"):
        rows = draw.integers(0, 256, (20, 3072)).astype(np.uint8)
        found[f"cifar/{name}"] = pickle.dumps({b"labels": [n % 10 for n in range(20)], b"data": rows}, protocol=2)
    return found
