"""What lies inside If and Loop: counted as a run has shown it, and said where it has not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from deploykit import reports
from deploykit.profiler import profile
from deploykit.profiler.onnx.nodes import count_nodes
from deploykit.profiler.onnx.run import observe
from deploykit.views.profile import report

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def stored(name, *shape):
    return onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)


def constant(name, *shape):
    return helper.make_node("Constant", [], [name], value=stored("", *shape))


def model_of(nodes, inputs, weights=(), version=21, ir_version=10):
    graph = helper.make_graph(nodes, "g", inputs, [value("y")], list(weights))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=ir_version)


def saved(model, folder):
    file = folder / "model.onnx"
    onnx.save(model, file)
    return file


def branch(name, *sizes):
    """x (1, 16) by one matrix after the other, each a Constant of the branch; the last has 16 columns."""
    nodes, last = [], "x"
    for number, (rows, columns) in enumerate(sizes):
        end = "out" if number == len(sizes) - 1 else f"v{number}"
        nodes += [constant(f"w{number}", rows, columns), helper.make_node("MatMul", [last, f"w{number}"], [end])]
        last = end
    return helper.make_graph(nodes, name, [], [value("out", FLOAT, (1, 16))])


def choice(then, other):
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("a", *then), else_branch=branch("b", *other))
    return model_of([node], [value("x", FLOAT, (1, 16)), value("c", BOOL, ())])


@pytest.mark.parametrize(("taken", "macs"), [(True, 256), (False, 2 * 16 * 8)])
def test_the_branch_that_ran_is_counted_and_the_other_said_and_both_have_parameters(tmp_path, taken, macs):
    file = saved(choice([(16, 16)], [(16, 8), (8, 16)]), tmp_path)
    feeds = {"x": np.ones((1, 16), np.float32), "c": np.array(taken)}
    found = count_nodes(onnx.load(file), file=file, feeds=feeds)
    assert (found.totals.params, found.totals.ops, found.uncounted) == (512, macs, {})
    assert found.layers[0].macs == macs
    names = ("then_branch", "else_branch") if taken else ("else_branch", "then_branch")
    assert any(f"took {names[0]}, which costs 256; {names[1]}, the other one, would cost 256" in note for note in found.notes)


def test_a_branch_of_which_only_a_run_tells_the_cost_is_run_too(tmp_path):
    """How many numbers are not zero no inference knows: 16 of (1, 16), as a (2, 16) matrix by one of 16 x 16."""
    nodes = [
        constant("w", 16, 16),
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Cast", ["where"], ["long"], to=FLOAT),
        helper.make_node("MatMul", ["long", "w"], ["out"]),
    ]
    other = helper.make_graph(nodes, "b", [], [value("out")])
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch("a", (16, 16)), else_branch=other)
    model = model_of([node], [value("x", FLOAT, (1, 16)), value("c", BOOL, ())])
    before = model.SerializeToString()
    feeds = {"x": np.ones((1, 16), np.float32), "c": np.array(True)}
    found = count_nodes(model, file=saved(model, tmp_path), feeds=feeds)
    assert found.totals.ops == 256
    assert found.notes == ("if (If): the run took then_branch, which costs 256; else_branch, the other one, would cost 512",)
    assert model.SerializeToString() == before


def test_without_a_run_branches_that_cost_the_same_are_counted_and_others_are_at_least():
    assert count_nodes(choice([(16, 16)], [(16, 8), (8, 16)])).totals.ops == 256
    found = count_nodes(choice([(16, 16)], [(16, 4), (4, 16)]))
    assert (found.totals.params, found.totals.ops, found.uncounted) == (256 + 128, 0, {"If": 1})


def loop(*nodes, weights=()):
    """``while i < n: v = nodes(v)`` over a (4, 4) matrix."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go2"]), *nodes], "body",
        [value("i", INT, ()), value("go", BOOL, ()), value("v", FLOAT, (None, None))], [value("go2", BOOL, ()), value("v2")],
    )  # fmt: skip
    return model_of(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)], [value("x", FLOAT, (4, 4)), value("n", INT, ())], weights
    )


def test_a_loop_counts_as_often_as_it_ran_on_the_shapes_that_it_had(tmp_path):
    """(4, 4) grows by 4 rows at every trip: 4, 8 and 12 rows by a matrix of 4 x 4, whose body and whose graph store it."""
    nodes = [
        constant("w", 4, 4),
        helper.make_node("MatMul", ["v", "w"], ["m"]),
        helper.make_node("MatMul", ["m", "shared"], ["m2"]),
        helper.make_node("Concat", ["m2", "x"], ["v2"], axis=0),
    ]
    file = saved(loop(*nodes, weights=[stored("shared", 4, 4)]), tmp_path)
    feeds = {"x": np.ones((4, 4), np.float32), "n": np.array(3)}
    found = count_nodes(onnx.load(file), file=file, feeds=feeds)
    assert (found.totals.params, found.totals.ops, found.uncounted) == (32, 2 * (4 + 8 + 12) * 16, {})
    assert any("its body ran 3 times" in note for note in found.notes)
    assert count_nodes(onnx.load(file), file=file, feeds={**feeds, "n": np.array(0)}).totals.ops == 0


def test_names_that_two_branches_share_are_two_weights_and_a_shared_weight_is_one():
    model = choice([(16, 16)], [(16, 16)])
    for attribute in model.graph.node[0].attribute:
        attribute.g.node.append(helper.make_node("Add", ["out", "bias"], ["sum"]))
    model.graph.initializer.append(stored("bias", 16))
    assert count_nodes(model).totals.params == 2 * 256 + 16


def test_a_file_that_cannot_run_says_so_and_its_headline_is_a_lower_bound(tmp_path):
    """A custom operator keeps onnxruntime from loading it; every format marks the total."""
    model = choice([(16, 16)], [(16, 4), (4, 16)])
    model.graph.node.append(helper.make_node("Strange", ["x"], ["s"], domain="my.domain"))
    model.opset_import.append(helper.make_opsetid("my.domain", 1))
    found = profile(str(saved(model, tmp_path)), latency=False)
    assert any("failed" in note and "Strange" in note for note in found.table.notes)
    shown = report(found)
    for form in ("table", "markdown", "html"):
        assert "at least 0 MACs" in reports.render(shown, form)
    assert '\n"total, at least"' in reports.render(shown, "csv")
    totals = found.document()["totals"]
    assert (totals["ops_at_least"], totals["params_at_least"]) == (True, False)


def test_what_is_counted_whole_is_not_called_a_lower_bound():
    found = profile("lenet5", untrained=True, latency=False)
    assert "at least" not in report(found).title
    assert not found.document()["totals"]["ops_at_least"]


def test_nodes_without_names_and_the_oldest_format(tmp_path):
    """Before version 4 every initializer is an input, too; how many columns NonZero has only a run tells."""
    nodes = [
        helper.make_node("NonZero", ["ones"], ["where"]),
        helper.make_node("Cast", ["where"], ["long"], to=FLOAT),
        helper.make_node("MatMul", ["long", "w"], ["y"]),
    ]
    weights = [stored("ones", 2, 3), stored("w", 6, 5)]
    entries = [value("x", FLOAT, (1, 2)), *(value(t.name, FLOAT, t.dims) for t in weights)]
    file = saved(model_of(nodes, entries, weights, version=13, ir_version=3), tmp_path)
    assert count_nodes(onnx.load(file)).uncounted == {"MatMul": 1}
    found = count_nodes(onnx.load(file), file=file)
    assert (found.totals.ops, found.totals.params, found.uncounted) == (2 * 6 * 5, 36, {})
    conv = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    weights = [stored("w", 8, 3, 3, 3)]
    entries = [value("x", FLOAT, (1, 3, 8, 8)), value("w", FLOAT, (8, 3, 3, 3))]
    assert count_nodes(model_of(conv, entries, weights, version=9, ir_version=3)).totals.ops == 8 * 36 * 27


def test_a_scan_needs_no_run_its_input_says_how_often_it_runs():
    nodes = [helper.make_node("MatMul", ["s", "w"], ["s2"]), helper.make_node("Add", ["s2", "x_t"], ["o"])]
    body = helper.make_graph(
        nodes, "body", [value("s", FLOAT, (2, 4)), value("x_t", FLOAT, (2, 4))], [value("s2", FLOAT, (2, 4)), value("o", FLOAT, (2, 4))],
        [stored("w", 4, 4)],
    )  # fmt: skip
    scan = helper.make_node("Scan", ["s0", "x"], ["last", "y"], name="scan", body=body, num_scan_inputs=1, scan_input_axes=[1])
    found = count_nodes(model_of([scan], [value("s0", FLOAT, (2, 4)), value("x", FLOAT, (2, 7, 4))]))
    assert (found.totals.params, found.totals.ops, found.uncounted) == (16, 7 * 2 * 16, {})
    assert found.notes == ("scan (Scan): its body runs 7 times",)


def repeated(nodes, outside, inputs, weights, kind=FLOAT):
    """A Loop of three trips around nodes that make `v`, after others outside it."""
    body = helper.make_graph(
        [*nodes, helper.make_node("Identity", ["go"], ["on"])], "body", [value("i", INT, ()), value("go", BOOL, ())],
        [value("on", BOOL, ()), value("v", kind)],
    )  # fmt: skip
    made = helper.make_node("Loop", ["n", ""], ["y"], name="loop", body=body)
    graph = helper.make_graph([*outside, made], "g", inputs, [value("y", kind)], [*weights, number("n", 3)])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)


def number(name, array):
    return onnx.numpy_helper.from_array(np.asarray(array), name)


def counted(model, folder, feeds=None):
    return count_nodes(model, file=saved(model, folder), feeds=feeds)


def test_a_quantized_weight_that_is_moved_outside_a_loop_has_the_shape_that_it_gets(tmp_path):
    nodes, outside = (
        [helper.make_node("ConvInteger", ["x", "w"], ["v"])],
        [helper.make_node("Transpose", ["q"], ["w"], perm=[3, 2, 0, 1])],
    )
    x = [value("x", TensorProto.UINT8, (1, 2, 5, 5))]
    found = counted(repeated(nodes, outside, x, [number("q", np.ones((3, 3, 2, 4), np.int8))], TensorProto.INT32), tmp_path)
    assert (found.totals.params, found.totals.ops, found.ops_at_least) == (72, 3 * 36 * 18, False)


def test_what_runs_under_other_names_is_counted_or_said(tmp_path):
    """onnxruntime has no kernel for Attention on doubles, and makes a Loop of SequenceMap."""
    each = helper.make_graph(
        [helper.make_node("MatMul", ["e", "w"], ["o"])], "each", [value("e", FLOAT, (2, 4))], [value("o", FLOAT, (2, 4))]
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["s"]), helper.make_node("SequenceMap", ["s"], ["t"], body=each),
        helper.make_node("SequenceAt", ["t", "zero"], ["v"]),
    ]  # fmt: skip
    weights = [stored("w", 4, 4), number("zero", 0)]
    found = counted(repeated(nodes, [], [value("x", FLOAT, (2, 4))], weights), tmp_path)
    assert (found.totals.ops, found.ops_at_least) == (3 * 2 * 32, False)
    entries = [value(name, TensorProto.DOUBLE, (2, 4, 3, 4)) for name in "abc"]
    found = counted(
        repeated([helper.make_node("Attention", ["a", "b", "c"], ["v"])], [], entries, [], TensorProto.DOUBLE), tmp_path
    )
    assert (found.totals.ops, found.uncounted) == (0, {"Attention": 1})


def test_a_sequence_map_is_counted_for_each_element(tmp_path):
    each = helper.make_graph(
        [helper.make_node("MatMul", ["e", "w"], ["o"])], "each", [value("e", FLOAT, (2, 4))], [value("o", FLOAT, (2, 4))]
    )
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x", "x"], ["s"]), helper.make_node("SequenceMap", ["s"], ["t"], body=each),
        helper.make_node("ConcatFromSequence", ["t"], ["y"], axis=0),
    ]  # fmt: skip
    found = counted(model_of(nodes, [value("x", FLOAT, (2, 4))], [stored("w", 4, 4)]), tmp_path)
    assert (found.totals.ops, found.uncounted) == (3 * 32, {})


def test_what_made_up_values_decide_is_a_lower_bound_and_given_values_are_exact(tmp_path):
    model = loop(helper.make_node("MatMul", ["v", "w"], ["v2"]), weights=[stored("w", 4, 4)])
    found = counted(model, tmp_path)
    assert found.ops_at_least
    assert any("made-up values of the inputs" in note and note.endswith(": y") for note in found.notes)
    exact = counted(model, tmp_path, {"x": np.ones((4, 4), np.float32), "n": np.array(5)})
    assert (exact.totals.ops, exact.ops_at_least, exact.made_up) == (5 * 64, False, ())


@pytest.mark.parametrize("source", ["x", "w"])
def test_a_size_that_made_up_values_decide_is_a_lower_bound(tmp_path, source):
    """Where numbers are not zero: of an input nobody knows, of a weight the run does."""
    nodes = [
        helper.make_node("NonZero", [source], ["where"]), helper.make_node("Transpose", ["where"], ["rows"]),
        helper.make_node("Cast", ["rows"], ["long"], to=FLOAT), helper.make_node("MatMul", ["long", "m"], ["y"], name="product"),
    ]  # fmt: skip
    model = model_of(nodes, [value("x", FLOAT, (4, 4))], [stored("w", 4, 4), stored("m", 2, 8)])
    found = counted(model, tmp_path)
    assert found.made_up == (("product",) if source == "x" else ())
    assert source == "x" or found.totals.ops == 16 * 16


@pytest.mark.parametrize(("condition", "made_up"), [("mean", True), ("stored", False)])
def test_a_branch_inside_a_loop_that_made_up_values_choose_is_said(tmp_path, condition, made_up):
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["a"])], "a", [], [value("a", FLOAT, (4, 4))])
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["b"])], "b", [], [value("b", FLOAT, (4, 4))])
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], keepdims=0), helper.make_node("Less", ["m", "low"], ["mean"]),
        helper.make_node("If", [condition], ["v"], then_branch=then, else_branch=other),
    ]  # fmt: skip
    weights = [stored("w", 4, 4), number("low", np.float32(-1e9)), number("stored", False)]
    found = counted(repeated(nodes, [], [value("x", FLOAT, (4, 4))], weights), tmp_path)
    assert (found.totals.ops, found.ops_at_least) == (0, made_up)


def test_of_a_branch_that_made_up_values_choose_the_dearer_one_may_be_meant(tmp_path):
    """The cheaper one is no lower bound."""
    for sizes, at_least in (([(16, 4), (4, 16)], False), ([(16, 32), (32, 16)], True)):
        model = choice([(16, 16)], sizes)
        model.graph.node[0].input[0] = "picked"
        model.graph.node.insert(0, helper.make_node("Or", ["c", "yes"], ["picked"]))
        model.graph.initializer.append(number("yes", True))
        found = counted(model, tmp_path)
        assert (found.totals.ops, found.ops_at_least) == (256, at_least)
        assert any("the run on made-up values took then_branch" in note for note in found.notes)


def test_a_run_that_does_not_end_is_stopped_and_the_table_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("deploykit.profiler.onnx.run.MOST_SECONDS", 0.2)
    body = helper.make_graph(
        [helper.make_node("MatMul", ["a", "a"], ["b"]), helper.make_node("Identity", ["go"], ["on"])],
        "body", [value("i", INT, []), value("go", BOOL, []), value("a", FLOAT, [64, 64])],
        [value("on", BOOL, []), value("b", FLOAT, [64, 64])],
    )  # fmt: skip
    trips = onnx.numpy_helper.from_array(np.array(1 << 40), "trips")
    model = model_of([helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)], [value("x", FLOAT, [64, 64])], [trips])
    run = observe(model, saved(model, tmp_path), {"x": np.zeros((64, 64), np.float32)})
    assert run.failure == "it takes longer than 0.2 s"
