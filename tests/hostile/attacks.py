"""Files that somebody would make on purpose, each small on disk: the ones everybody tries, and the ones that fuzzing found.

`ATTACKS` has them by name, with the kind of file and how to write it into a folder; `COMMANDS` has every command that takes
such a kind. All are to be refused with one line.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import seeds as good
import torch
from onnx import TensorProto, helper, numpy_helper

from deploykit.runtime.contract import KEY

SENTINEL = "code-was-run"
DEEP = 100_000
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "onnx": (
        ("predict", "{}", "good.png"),
        ("validate", "{}", "--against", good.NETWORK, "--untrained"),
        ("simplify", "{}", "--out", "out.onnx"),
        ("profile", "{}", "--no-latency"),
        ("profile", "{}"),
    ),
    "models": (("validate", "{}", "--against", good.NETWORK, "--untrained"), ("profile", "{}", "--no-latency")),
    "contract": (("predict", "{}", "good.png"), ("validate", "{}")),
    "origin": (("validate", "{}"),),
    "weights": (
        ("export", good.NETWORK, "--checkpoint", "{}"),
        ("profile", good.NETWORK, "--no-latency", "--checkpoint", "{}"),
        ("validate", "good.onnx", "--against", good.NETWORK, "--checkpoint", "{}"),
        ("train", good.NETWORK, "--init", "{}", "--limit", "20", "--epochs", "1", "--out", "run"),
    ),
    "checkpoint": (("export", "{}"), ("profile", "{}", "--no-latency"), ("validate", "good.onnx", "--against", "{}")),
    "image": (("predict", "good.onnx", "{}"),),
    "dataset": (("train", good.NETWORK, "--data", "{}", "--epochs", "1", "--out", "run"),),
}


@dataclass(frozen=True)
class Attack:
    """`kind`: a key of `COMMANDS`. `write`: makes it in a folder and gives its path. `words`: what the one line must say."""

    kind: str
    write: Callable[[Path], Path]
    words: str = ""


class _Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"open({SENTINEL!r}, 'w').close()",)


def _file(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _pickle_in_zip(folder: Path) -> Path:
    """What `torch.save` would write of it."""
    torch.save({"weight": _Code()}, folder / "bad.pt")
    return folder / "bad.pt"


def _zip_bomb(folder: Path) -> Path:
    """A tensor of 256 MB of zeros in 256 KB; the pickle says how many it is."""
    torch.save({"weight": torch.zeros(1 << 20)}, folder / "small.pt")
    with zipfile.ZipFile(folder / "small.pt") as source, zipfile.ZipFile(folder / "bad.pt", "w", zipfile.ZIP_DEFLATED) as out:
        for name in source.namelist():
            if name.endswith("data/0"):
                with out.open(name, "w", force_zip64=True) as stream:
                    for _ in range(256):
                        stream.write(bytes(1 << 20))
            else:
                out.writestr(name, source.read(name))
    return folder / "bad.pt"


def _many_records(folder: Path) -> Path:
    """An archive that says of itself that its list of records has 3 GB."""
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, 3 << 30, 0, 0)
    return _file("bad.pt", b"PK\3\4" + bytes(60) + end)(folder)


def _sparse_weights(folder: Path) -> Path:
    torch.save({"blocks.0.0.weight": torch.zeros(16, 1, 5, 5).to_sparse()}, folder / "bad.pt")
    return folder / "bad.pt"


def _before_1_6(content: bytes) -> bytes:
    """A file in torch's format of then, around the pickle of its content."""
    first = [pickle.dumps(part, 2) for part in (torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {})]
    return b"".join(first) + content + pickle.dumps([], 2)


def _doubling_dicts(folder: Path) -> Path:
    """Twenty dicts, each of which holds the one before ten times: small in the file, endless to walk."""
    content: dict[str, Any] = {"weight": torch.zeros(1)}
    for _ in range(20):
        content = {str(index): content for index in range(10)}
    torch.save(content, folder / "bad.bin")
    return folder / "bad.bin"


def _itself(folder: Path) -> Path:
    content: dict[str, Any] = {"epoch": 3}
    content["model"] = content
    torch.save(content, folder / "bad.ckpt")
    return folder / "bad.ckpt"


def _script(folder: Path) -> Path:
    """TorchScript, whose code torch.jit.load would bring to life; its values are forged, and must not be looked at."""
    with zipfile.ZipFile(folder / "bad.bin", "w") as archive:
        for name, data in (
            ("data.pkl", pickle.dumps(_Code(), 2)),
            ("constants.pkl", pickle.dumps(_Code(), 2)),
            ("version", b"3\n"),
        ):
            archive.writestr(f"net/{name}", data)
    return folder / "bad.bin"


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    """A checkpoint of deploykit's whose header was changed."""

    def write(folder: Path) -> Path:
        (folder / "work").mkdir()
        data = good._checkpoints(folder / "work")["seed.safetensors"]
        size = struct.unpack("<Q", data[:8])[0]
        outer = json.loads(data[8 : 8 + size])
        inner = json.loads(outer["__metadata__"][KEY])
        changed = change(inner)
        outer["__metadata__"][KEY] = changed if isinstance(changed, str) else json.dumps(inner)
        return _file("bad.safetensors", good.safetensors(outer, data[8 + size :]))(folder)

    return write


def _model(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], Path]:
    """The good model, changed."""

    def write(folder: Path) -> Path:
        model = good.flat()
        change(model)
        return _file("bad.onnx", model.SerializeToString())(folder)

    return write


def _large(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], Path]:
    """The model of many operators, changed as the fuzzer found it."""

    def write(folder: Path) -> Path:
        model = good.model()
        change(model)
        return _file("bad.onnx", model.SerializeToString())(folder)

    return write


def _wide_kernel(model: onnx.ModelProto) -> None:
    """A pooling window that is larger than its input: shape inference gives a negative size, and a later Slice aborts on it."""
    next(a for a in model.graph.node[3].attribute if a.name == "kernel_shape").ints[:] = [2, 65_536]


def _tall_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 2**63 - 1


def _broken_equation(model: onnx.ModelProto) -> None:
    """onnx's parser of Einsum's equations looks for an arrow for ever."""
    next(a for a in model.graph.node[22].attribute if a.name == "equation").s = b"ij,jk--"


def _external(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        _outside(model.graph.initializer[0], location)

    return change


def _outside(tensor: onnx.TensorProto, location: str) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)


def _external_constant(model: onnx.ModelProto) -> None:
    """Not among the weights, but in a node's attribute."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "t")
    _outside(tensor, "../secret")
    model.graph.node.insert(0, helper.make_node("Constant", [], ["unused"], value=tensor))


def _symlink(folder: Path) -> Path:
    (folder / "weights").symlink_to("/etc/passwd")
    return _model(_external("weights"))(folder)


def _many_nodes(model: onnx.ModelProto) -> None:
    """A million, by repeating the bytes of one."""
    node = helper.make_node("Identity", ["input"], [""]).SerializeToString()
    model.graph.MergeFromString((b"\x0a" + bytes([len(node)]) + node) * 1_000_000)


def _constant_of_shape(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.array([1_000_000_000], np.int64), "shape"))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["shape"], ["big"]))


def _computed_constant(model: onnx.ModelProto) -> None:
    """The shape is the product of two numbers: nothing that the file says is large."""
    model.graph.initializer.append(numpy_helper.from_array(np.array([50_000], np.int64), "side"))
    model.graph.node.insert(0, helper.make_node("Mul", ["side", "side"], ["area"]))
    model.graph.node.insert(1, helper.make_node("ConstantOfShape", ["area"], ["big"]))
    model.graph.node.insert(2, helper.make_node("ReduceSum", ["big"], ["total"], keepdims=0))
    model.graph.node.insert(3, helper.make_node("Add", ["input", "total"], ["shifted"]))
    model.graph.node[4].input[0] = "shifted"


def _lying_dims(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[:] = [1_000_000, 1_000_000]


def _sparse(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[100_000, 100_000])
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.zeros(1, np.int64), "i"))


def _doubling_functions(model: onnx.ModelProto) -> None:
    """Forty functions, each of which calls the one before twice: a million million nodes."""
    _function(model, 0, ["Relu", "Relu"], "")
    for level in range(1, 40):
        _function(model, level, [f"f{level - 1}"] * 2, "local")
    _call(model, "f39")


def _circle(model: onnx.ModelProto) -> None:
    _function(model, 0, ["f1"], "local")
    _function(model, 1, ["f0"], "local")
    _call(model, "f0")


def _function(model: onnx.ModelProto, level: int, operators: list[str], domain: str) -> None:
    names = ["x", *(f"v{i}" for i in range(len(operators) - 1)), "y"]
    nodes = [helper.make_node(o, [names[i]], [names[i + 1]], domain=domain) for i, o in enumerate(operators)]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("local", 1)]
    model.functions.append(helper.make_function("local", f"f{level}", ["x"], ["y"], nodes, opsets))


def _call(model: onnx.ModelProto, name: str) -> None:
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node.insert(0, helper.make_node(name, ["input"], ["called"], domain="local"))
    model.graph.node[1].input[0] = "called"


def _nested_bodies(model: onnx.ModelProto) -> None:
    """Thirty branches within each other."""
    graph = helper.make_graph([helper.make_node("Identity", ["input"], ["z"])], "b", [], [onnx.ValueInfoProto(name="z")])
    for _ in range(30):
        node = helper.make_node("If", ["flag"], ["z"], then_branch=graph)
        graph = helper.make_graph([node], "b", [], [onnx.ValueInfoProto(name="z")])
    model.graph.node.append(graph.node[0])


def _endless_loop(model: onnx.ModelProto) -> None:
    body = good.model().graph.node[23].attribute[0].g
    nodes = [helper.make_node("Loop", ["trips", "", "flat"], ["looped"], body=body)]
    model.graph.initializer.append(numpy_helper.from_array(np.array(2**62, np.int64), "trips"))
    model.graph.node.insert(1, nodes[0])
    model.graph.node[2].input[0] = "looped"
    for value in (body.input[2], body.output[1]):
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.dim.add(dim_param="n")
        value.type.tensor_type.shape.dim.add(dim_value=64)
    model.graph.node[1].attribute[0].g.CopyFrom(body)


def _contract(change: Callable[[dict[str, Any]], object]) -> Callable[[onnx.ModelProto], None]:
    def apply(model: onnx.ModelProto) -> None:
        document = json.loads(model.metadata_props[0].value)
        changed = change(document)
        model.metadata_props[0].value = changed if isinstance(changed, str) else json.dumps(document)

    return apply


def _origin(name: str) -> Callable[[onnx.ModelProto], None]:
    return _contract(lambda document: document.update(provenance={"network": name, "checkpoint_sha256": None}))


def _module_origin(folder: Path) -> Path:
    """A file that says it was made from a module that lies beside it: importing that would be running it."""
    (folder / "innocent.py").write_text(f"open({SENTINEL!r}, 'w').close()\ndef net(): pass\n")
    return _model(_origin("innocent:net"))(folder)


def _png(width: int, height: int) -> bytes:
    """A header that claims a size, and hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))

    head = struct.pack(">2L5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def _many_scans() -> bytes:
    """A progressive JPEG with the same scan two hundred times: each is as much work as a picture."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("L", (16, 16)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + scan * 200 + data[-2:]


def _cifar(data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        place = folder / "cifar"
        place.mkdir()
        for name in ("data_batch_1", "test_batch"):
            (place / name).write_bytes(data)
        return place

    return write


def _idx_bomb(folder: Path) -> Path:
    """Claims a thousand million pixels in a gzip stream that would give them."""
    import gzip

    place = folder / "mnist"
    place.mkdir()
    head = bytes([0, 0, 8, 3]) + struct.pack(">3L", 1 << 20, 32, 32)
    with gzip.open(place / "train-images-idx3-ubyte.gz", "wb") as stream:
        stream.write(head)
        for _ in range(64):
            stream.write(bytes(1 << 20))
    for name, labels in (("train-labels-idx1-ubyte", 10), ("t10k-labels-idx1-ubyte", 10)):
        (place / name).write_bytes(good.idx(np.zeros(labels)))
    return place


def _postscript_folder(folder: Path) -> Path:
    """PostScript that is called a PNG: Pillow would hand it to Ghostscript."""
    for label in ("cats", "dogs"):
        (folder / "pets" / label).mkdir(parents=True)
        for number in range(3):
            (folder / "pets" / label / f"{number}.png").write_bytes(
                b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
            )
    return folder / "pets"


def _many_numbers(header: dict[str, Any]) -> None:
    header["arguments"] = {"width": 1_000_000_000, "depth": 1_000_000_000}


_DEEP_JSON = "[" * DEEP + "]" * DEEP
ATTACKS: dict[str, Attack] = {
    "malicious pickle, zip": Attack("weights", _pickle_in_zip, "wants to run code"),
    "malicious pickle, old format": Attack("weights", _file("bad.pth", pickle.dumps(_Code())), "wants to run code"),
    "zip bomb": Attack("weights", _zip_bomb, "would unpack to"),
    "zip with a list of 3 GB": Attack("weights", _many_records, "too many records"),
    "malicious pickle, unusual ending": Attack("weights", _file("bad.pth.tar", pickle.dumps(_Code(), 0)), "wants to run code"),
    "dicts nested 100,000 deep": Attack(
        "weights", _file("bad.pth", _before_1_6(b"\x80\x02" + b"}X\1\0\0\0a" * DEEP + b"N" + b"s" * DEEP + b".")), "no tensor"
    ),
    "dicts that grow ten times twenty times": Attack("weights", _doubling_dicts, "too many entries"),
    "a dict within itself": Attack("weights", _itself, "no tensor"),
    "TorchScript with code of its own": Attack("weights", _script, "is TorchScript"),
    "sparse weights": Attack("weights", _sparse_weights, "no dense tensor"),
    "10 GB header length": Attack("checkpoint", _file("bad.safetensors", struct.pack("<Q", 10 << 30) + b"{}"), "safetensors"),
    "header of JSON nested 100,000 deep": Attack("checkpoint", _header(lambda _: _DEEP_JSON), "JSON"),
    "safetensors' own JSON nested 100,000 deep": Attack(
        "checkpoint", _file("bad.safetensors", struct.pack("<Q", 2 * DEEP) + _DEEP_JSON.encode()), "safetensors"
    ),
    "header with a billion classes": Attack(
        "checkpoint", _header(lambda header: header["arguments"].update(classes=10**9)), "elements"
    ),
    "header with unknown arguments": Attack("checkpoint", _header(_many_numbers), "unknown argument"),
    "header with an input of 16384x4096": Attack(
        "checkpoint", _header(lambda header: header["input"].update(height=16_384, width=4096)), "elements"
    ),
    "header with a seed that is none": Attack("checkpoint", _header(lambda header: header.update(seed=10**30)), "seed"),
    "external data in ../": Attack("onnx", _model(_external("../../etc/passwd")), "outside its folder"),
    "external data at an absolute path": Attack("onnx", _model(_external("/etc/passwd")), "outside its folder"),
    "external data behind a link": Attack("onnx", _symlink, "outside its folder"),
    "external data that is missing": Attack("onnx", _model(_external("weights.bin")), "not there"),
    "external data of a constant in ../": Attack("onnx", _model(_external_constant), "outside its folder"),
    "a million nodes": Attack("onnx", _model(_many_nodes), "nodes"),
    "a billion-element constant": Attack("onnx", _model(_constant_of_shape), "1,000,000,000"),
    "a billion-element constant, computed": Attack("onnx", _model(_computed_constant), "memory"),
    "dimensions that claim a terabyte": Attack("onnx", _model(_lying_dims), "claims"),
    "a sparse tensor that is dense": Attack("onnx", _model(_sparse), "sparse"),
    "functions that double forty times": Attack("onnx", _model(_doubling_functions), "functions are expanded"),
    "functions in a circle": Attack("onnx", _model(_circle), "calls itself"),
    "thirty bodies within each other": Attack("onnx", _model(_nested_bodies), "bodies"),
    "a loop without end": Attack("onnx", _model(_endless_loop), "does not end"),
    "checker aborts: kernel larger than its input": Attack("onnx", _large(_wide_kernel), "crash"),
    "onnxruntime aborts: input of 2^63 rows": Attack("onnx", _large(_tall_input), "crash"),
    "checker never ends: an equation without an arrow": Attack("models", _large(_broken_equation), "does not end"),
    "contract of JSON nested 100,000 deep": Attack("contract", _model(_contract(lambda _: _DEEP_JSON)), "JSON"),
    "contract of 20 MB": Attack("contract", _model(_contract(lambda _: "x" * (20 << 20))), "metadata"),
    "contract that names a module to import": Attack("origin", _module_origin, "may not choose what code runs"),
    "contract that names a standard module": Attack("origin", _model(_origin("http.server:test")), "may not choose what code runs"),
    "image bomb": Attack("image", _file("bad.png", _png(60_000, 60_000)), "too large"),
    "JPEG of two hundred scans": Attack("image", _file("bad.jpg", _many_scans()), "scans"),
    "PostScript as image": Attack("image", _file("bad.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"), "known format"),
    "malicious CIFAR pickle": Attack("dataset", _cifar(pickle.dumps(_Code(), protocol=2)), "not data"),
    "CIFAR pickle with a memo of 16 GB": Attack("dataset", _cifar(b"\x80\x02Nr" + struct.pack("<L", 1 << 31) + b"."), "memo"),
    "gzip bomb of digits": Attack("dataset", _idx_bomb, "claims"),
    "folder of PostScript": Attack("dataset", _postscript_folder, "known format"),
}  # fmt: skip


def prepare(folder: Path) -> None:
    """What the commands need besides the bad file."""
    (folder / "good.png").write_bytes(good._images()["image.png"])
    (folder / "good.onnx").write_bytes(good.flat().SerializeToString())
