"""The walk over the bytes of an ONNX file, on messages of a few bytes: each kind of field, and each bound."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from deploykit.errors import ModelFileError
from deploykit.runtime import bounds
from deploykit.runtime.bounds import survey


def model_of(nodes=(), initializers=(), sparse=(), **more):
    graph = helper.make_graph(list(nodes), "g", [], [], list(initializers), sparse_initializer=list(sparse))
    return helper.make_model(graph, **more).SerializeToString()


def sparse(dims, values=1):
    return helper.make_sparse_tensor(
        helper.make_tensor("s", TensorProto.FLOAT, [values], [1.0] * values),
        helper.make_tensor("i", TensorProto.INT64, [values], list(range(values))),
        dims,
    )


def refused(data, what):
    with pytest.raises(ModelFileError) as caught:
        survey(data, "x.onnx")
    assert str(caught.value).startswith("x.onnx cannot be loaded: "), "what is wrong comes before what to do"
    assert what in caught.value.problem


@pytest.mark.parametrize("place", ["initializer", "attribute", "attributes"])
def test_a_sparse_tensor_that_is_too_large_when_it_is_dense(place):
    def data(dims):
        if place == "initializer":
            return model_of(sparse=[sparse(dims)])
        values = sparse(dims) if place == "attribute" else [sparse([1]), sparse(dims)]
        return model_of([helper.make_node("Constant", [], ["c"], sparse_value=values)])

    survey(data([1 << 27]), "x.onnx")
    refused(data([(1 << 27) + 1]), "a sparse tensor of 134,217,729 elements")
    refused(data([1 << 14, (1 << 13) + 1]), "a sparse tensor of 134,234,112 elements")
    refused(data([-1]), "a sparse tensor has impossible dimensions")


def raw(kind, dims, data, **fields):
    return TensorProto(name="w", data_type=kind, dims=dims, raw_data=data, **fields)


@pytest.mark.parametrize(
    ("tensor", "fine"),
    [
        (raw(TensorProto.FLOAT, [2], bytes(8)), True),
        (raw(TensorProto.FLOAT, [2], bytes(7)), False),
        (raw(TensorProto.FLOAT, [2], bytes(9)), False),
        (raw(TensorProto.FLOAT, [], bytes(4)), True),
        (raw(TensorProto.FLOAT, [0], b""), True),
        (raw(TensorProto.INT4, [3], bytes(2)), True),
        (raw(TensorProto.INT4, [3], bytes(1)), False),
        (raw(TensorProto.STRING, [1], bytes(1)), False),
        (raw(TensorProto.COMPLEX128, [2], bytes(32)), True),
        (TensorProto(data_type=TensorProto.COMPLEX64, dims=[2], float_data=[0.0] * 4), True),
        (TensorProto(data_type=TensorProto.COMPLEX64, dims=[2], float_data=[0.0] * 2), False),
        (TensorProto(data_type=TensorProto.COMPLEX128, dims=[2], double_data=[0.0] * 4), True),
        (TensorProto(data_type=TensorProto.DOUBLE, dims=[2], double_data=[0.5] * 2), True),
        (TensorProto(data_type=TensorProto.DOUBLE, dims=[2], double_data=[0.5] * 3), False),
        (TensorProto(data_type=TensorProto.INT64, dims=[3], int64_data=[1, 1 << 40, -1]), True),
        (TensorProto(data_type=TensorProto.INT64, dims=[2], int64_data=[1, 1 << 40, -1]), False),
        (TensorProto(data_type=TensorProto.INT32, dims=[2], int32_data=[300, -300]), True),
        (TensorProto(data_type=TensorProto.UINT64, dims=[2], uint64_data=[1, 1 << 63]), True),
        (TensorProto(data_type=TensorProto.STRING, dims=[2], string_data=[b"", b"a"]), True),
        (TensorProto(data_type=TensorProto.STRING, dims=[1], string_data=[b"", b"a"]), False),
        (TensorProto(data_type=TensorProto.INT4, dims=[8], int32_data=[1]), True),  # eight bits are enough to hold eight at most
        (TensorProto(data_type=TensorProto.INT4, dims=[9], int32_data=[1]), False),
        (TensorProto(data_type=TensorProto.INT4, dims=[1], int32_data=[]), False),
        (TensorProto(data_type=TensorProto.FLOAT, dims=[4]), False),
        (TensorProto(data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL), True),
    ],
)
def test_a_tensor_stores_what_its_dimensions_claim(tensor, fine):
    data = model_of(initializers=[tensor])
    if fine:
        survey(data, "x.onnx")
    else:
        refused(data, "elements, which is not what the file stores for it")


@pytest.mark.parametrize("kind", [0, 29, 1000, -1])
def test_a_tensor_of_an_unknown_type(kind):
    refused(model_of(initializers=[raw(kind, [1], bytes(4))]), f"the tensor 'w' is of the unknown type {kind}")
    if kind > 0:
        survey(model_of(initializers=[TensorProto(data_type=28, dims=[1], raw_data=b"1")]), "x.onnx")


@pytest.mark.parametrize("dims", [[-1], [1] * 65, [2, -3]])
def test_impossible_dimensions(dims):
    refused(model_of(initializers=[raw(TensorProto.FLOAT, dims, bytes(4))]), "the tensor 'w' has impossible dimensions")
    survey(model_of(initializers=[raw(TensorProto.FLOAT, [1] * 64, bytes(4))]), "x.onnx")


def external(location):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location)):
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_the_files_in_which_weights_lie_are_found_wherever_they_are_named():
    values = helper.make_sparse_tensor(external("sparse.bin"), helper.make_tensor("i", TensorProto.INT64, [1], [0]), [4])
    inner = helper.make_graph([], "body", [], [], [external("body.bin")])
    nodes = [
        helper.make_node("Constant", [], ["c"], value=external("constant.bin")),
        helper.make_node("If", ["c"], ["d"], then_branch=inner, else_branch=inner),
    ]
    function = helper.make_function("f", "F", [], ["e"], [helper.make_node("Constant", [], ["e"], value=external("f.bin"))], [])
    data = model_of(nodes, [external("main.bin")], [values], functions=[function])
    assert survey(data, "x").locations == {"main.bin", "sparse.bin", "body.bin", "constant.bin", "f.bin"}
    training = onnx.ModelProto()
    for part in ("initialization", "algorithm"):
        graph = getattr(training.training_info.add(), part)
        graph.initializer.append(external(f"{part}.bin"))
    assert survey(training.SerializeToString(), "x").locations == {"initialization.bin", "algorithm.bin"}


@pytest.mark.parametrize(
    ("operator", "position"), [("ConstantOfShape", 0), ("Expand", 1), ("Tile", 1), ("RandomNormal", None), ("RandomUniform", None)]
)
def test_a_constant_that_is_only_a_shape(operator, position):
    def data(sizes):
        if position is None:
            return model_of([helper.make_node(operator, [], ["y"], shape=sizes, seed=1.0)])
        shape = helper.make_tensor("shape", TensorProto.INT64, [len(sizes)], sizes)
        by_bytes = TensorProto(name="shape", data_type=7, dims=[len(sizes)])
        by_bytes.raw_data = b"".join(size.to_bytes(8, "little", signed=True) for size in sizes)
        given = ["x"] * position + ["shape"]
        either = shape if len(sizes) == 1 else by_bytes
        return model_of([helper.make_node(operator, given, ["y"])], [either])

    survey(data([1 << 27]), "x")
    survey(data([-5, 0, 1 << 27]), "x")
    refused(data([(1 << 27) + 1]), f"a constant of 134,217,729 elements ({operator})")
    refused(data([1 << 14, 1 << 14]), f"a constant of 268,435,456 elements ({operator})")


def test_a_shape_in_a_constant_node_counts_too():
    shape = helper.make_tensor("", TensorProto.INT64, [1], [1 << 28])
    nodes = [helper.make_node("Constant", [], ["s"], value=shape), helper.make_node("ConstantOfShape", ["s"], ["y"])]
    refused(model_of(nodes), "a constant of 268,435,456 elements (ConstantOfShape)")
    survey(model_of(nodes[:1]), "x")
    survey(model_of([helper.make_node("Expand", ["s"], ["y"])]), "x")


def call(count, name="f"):
    return [helper.make_node(name, [], [f"y{n}"], domain="F") for n in range(count)]


def function(name, calls):
    return helper.make_function("F", name, [], ["y0"], calls, [])


def test_functions_are_counted_as_often_as_they_are_called(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_NODES", 12)
    inner, outer = function("inner", [helper.make_node("Neg", [], ["y0"])] * 3), function("outer", call(2, "inner"))
    for order in ([inner, outer], [outer, inner]):
        survey(model_of(call(1, "outer"), functions=order), "x")
        refused(model_of([*call(2, "outer"), helper.make_node("Neg", [], ["z"])], functions=order), "nodes once its functions are")
    refused(model_of(functions=[function("f", call(1))]), "calls itself")
    refused(model_of(functions=[function("f", call(1, "g")), function("g", call(1, "f"))]), "calls itself")
    survey(model_of(call(1, "unknown")), "x")


@pytest.mark.parametrize(
    ("name", "most", "data", "what"),
    [
        ("MAX_NODES", 2, lambda n: model_of([helper.make_node("Neg", [], ["y"])] * n), "more than 2 nodes"),
        ("MAX_TENSORS", 2, lambda n: model_of(initializers=[raw(1, [0], b"")] * n), "more than 2 tensors"),
        ("MAX_FIELDS", 2, lambda n: b"\x08\x01" * n, "more than 2 fields"),
    ],
)
def test_a_count_may_reach_its_bound(monkeypatch, name, most, data, what):
    monkeypatch.setattr(bounds, name, most)
    survey(data(2), "x.onnx")
    refused(data(3), what)


def _bytes(number, content):
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def test_bodies_within_bodies():
    def nested(depth):
        graph = helper.make_graph([], "g", [], [])
        for _ in range(depth - 1):
            graph = helper.make_graph([helper.make_node("If", [], ["y"], then_branch=graph)], "g", [], [])
        return helper.make_model(graph).SerializeToString()

    survey(nested(16), "x")
    refused(nested(17), "more than 16 bodies within each other")


@pytest.mark.parametrize(
    "data",
    [
        b"\x0a",  # a field without its length
        b"\x0a\x05abc",  # longer than the message
        b"\x08",  # a number that does not begin
        b"\x08\x80",  # that does not end
        b"\x08" + b"\xff" * 10 + b"\x01",  # with too many digits
        b"\x0d\x00\x00\x00",  # four bytes, of which three are there
        b"\x09" + bytes(7),  # eight bytes, of which seven are there
        b"\x0b",  # a group, which nobody writes
        b"\x0f",  # a kind that does not exist
        _bytes(14, b"\x0a\x01\xff"),  # metadata that is no text
        _bytes(7, _bytes(1, _bytes(4, b"\xff"))),  # an operator that is none
        _bytes(7, _bytes(1, _bytes(1, b"\xff"))),  # an input that is none
        _bytes(7, _bytes(1, _bytes(7, b"\xff"))),  # a domain that is none
    ],
)
def test_what_is_no_protobuf(data):
    refused(data, "it is not a whole ONNX file")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x08\x01",
        b"\x0d\x00\x00\x00\x00",
        b"\x09" + bytes(8),
        b"\xf8\x07\x01",  # the field 127, whose tag takes two bytes
        b"\x08" + b"\xff" * 9 + b"\x01",  # -1, in ten bytes
        b"\x7a\x80\x01" + bytes(128),  # a length that takes two bytes
        _bytes(7, _bytes(1, _bytes(4, "é".encode()))),
    ],
)
def test_what_is_protobuf_of_no_interest(data):
    assert survey(data, "x").locations == set()


def test_metadata_may_have_so_many_bytes(monkeypatch):
    monkeypatch.setattr(bounds, "MAX_METADATA", 10)
    entry = _bytes(14, b"\x0a\x03abc")
    survey(entry * 2, "x.onnx")
    refused(entry * 3, "metadata of more than 0 MB")
