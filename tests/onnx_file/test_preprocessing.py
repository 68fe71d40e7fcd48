"""Preprocessing in the graph: Pillow's pixels whatever the image, taken off again without a trace, every fault in it found."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from deploykit import onnx_file
from deploykit.errors import ExportError, ModelFileError
from deploykit.exporter import export
from deploykit.onnx_file.inputs import GraphInput
from deploykit.onnx_file.preprocessing import embed, embedding, split
from deploykit.runtime import Predictor
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.preprocessing import preprocess, to_pixels

NEWEST = 26  # the newest opset that onnxruntime runs


def network(rules, opset=20, kind=TensorProto.FLOAT):
    """A network that gives back its input."""
    shape = ["batch", rules.channels, rules.height, rules.width]
    values = [helper.make_tensor_value_info(name, kind, shape) for name in ("input", "logits")]
    node = helper.make_node("Identity", ["input"], ["logits"], name="same")
    graph = helper.make_graph([node], "network", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def opened(model):
    onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def rules_of(channels, interpolation, fit):
    per_channel = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if channels == 3 else ((0.5,), (0.5,))
    resize = {"stretch": None, "center-crop": 29, "padded": 17, "padded by 3": 24}[fit]
    return ImageInput(
        channels,
        27,
        20,
        interpolation,
        "stretch" if fit == "stretch" else "center-crop",
        resize,
        mean=per_channel[0],
        std=per_channel[1],
    )


def image_of(pixels):
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


SIZES = ((1, 1), (1, 33), (40, 1), (27, 20), (8, 8), (60, 41), (211, 97), (97, 211), (150, 30))


@pytest.mark.parametrize("fit", ["stretch", "center-crop", "padded", "padded by 3"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_graph_makes_pillows_pixels_to_the_bit(channels, interpolation, fit):
    rules = rules_of(channels, interpolation, fit)
    session = opened(embed(network(rules), rules))
    generator = np.random.default_rng(0)
    for size in SIZES:
        images = generator.integers(0, 256, (2, *size, channels), np.uint8)
        found = session.run(None, {"input": images})[0]
        assert np.array_equal(found, np.stack([preprocess(image_of(image), rules) for image in images])), size


TEN_SIZES = ((1, 1), (1, 33), (40, 1), (27, 20), (8, 9), (61, 41), (97, 211), (427, 641), (13, 500), (20, 27))
FITS = {
    "stretch": {},
    "center-crop": {"resize": 23},
    "letterbox": {"padding": (114,)},
    "letterbox at the top": {"padding": (7, 0, 255), "placement": "top-left"},
    "letterbox in black": {},
}


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("order", ["rgb", "bgr"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_every_fit_and_order_of_colours_in_the_graph_is_pythons(fit, order, interpolation):
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    rules = ImageInput(3, 27, 21, interpolation, fit.split()[0], mean=mean, std=std, order=order, **FITS[fit])
    session = opened(embed(network(rules), rules))
    generator = np.random.default_rng(0)
    for size in TEN_SIZES:
        image = generator.integers(0, 256, (*size, 3), np.uint8)
        found = session.run(None, {"input": image[None]})[0][0]
        assert np.array_equal(found, preprocess(Image.fromarray(image), rules)), size


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (31, 500), (9, 9)])
def test_a_letterbox_is_resize_and_pad(size):
    """By torchvision's own steps, on Pillow images; and by hand where the sides are."""
    transforms = pytest.importorskip("torchvision.transforms.v2.functional")
    rules = ImageInput(3, 64, 96, fit="letterbox", padding=(114,))
    image = Image.fromarray(np.random.default_rng(4).integers(0, 256, (size[1], size[0], 3), np.uint8))
    ratio = min(96 / size[0], 64 / size[1])
    height, width = max(1, int(size[1] * ratio + 0.5)), max(1, int(size[0] * ratio + 0.5))
    left, top = (96 - width) // 2, (64 - height) // 2
    steps = transforms.pad(transforms.resize(image, [height, width]), [left, top, 96 - width - left, 64 - height - top], 114)
    assert np.array_equal(to_pixels(image, rules), np.asarray(steps))


@pytest.mark.parametrize("opset", [18, NEWEST])
@pytest.mark.parametrize("interpolation", ["nearest", "bicubic"])
def test_on_the_oldest_and_the_newest_opset(opset, interpolation):
    rules = rules_of(3, interpolation, "center-crop")
    session = opened(embed(network(rules, opset), rules))
    image = np.random.default_rng(1).integers(0, 256, (1, 61, 90, 3), np.uint8)
    assert np.array_equal(session.run(None, {"input": image})[0][0], preprocess(Image.fromarray(image[0]), rules))


@settings(max_examples=25, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    to=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    cubic=st.booleans(),
)
def test_any_size_to_any_size(width, height, to, cubic):
    rules = ImageInput(1, to[1], to[0], "bicubic" if cubic else "bilinear")
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 2, (height, width), np.uint8) * 255
    found = opened(embed(network(rules), rules)).run(None, {"input": pixels[None, :, :, None]})[0][0]
    assert np.array_equal(found, preprocess(Image.fromarray(pixels), rules))


def test_python_resizes_as_the_newest_pillow_does():
    """Pillow 13 chooses which axis goes first; the contract has one answer, so the choice is ours."""
    generator = np.random.default_rng(2)
    for height, width in SIZES:
        image = Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8))
        mine = to_pixels(image, ImageInput(3, 27, 20, "bicubic"))
        tall = height - 27 > 0 and height - 27 > 2 * (width - 20)
        between = image.resize((width, 27) if tall else (20, height), Image.Resampling.BICUBIC)
        assert np.array_equal(mine, np.asarray(between.resize((20, 27), Image.Resampling.BICUBIC)))


def test_split_gives_back_the_network_and_half_precision_stays():
    rules = rules_of(3, "bilinear", "stretch")
    for kind in (TensorProto.FLOAT, TensorProto.FLOAT16):
        model = network(rules, kind=kind)
        whole = embed(model, rules)
        assert split(whole).core == model
        assert opened(whole).run(None, {"input": np.zeros((1, 5, 4, 3), np.uint8)})[0].dtype == (
            np.float32 if kind == 1 else np.float16
        )
    with pytest.raises(ModelFileError, match="not in the graph"):
        split(model)


def test_a_network_with_a_module_of_that_name_keeps_it():
    rules = rules_of(1, "bilinear", "stretch")
    model = network(rules)
    model.graph.node[0].name = "preprocessing/Identity"
    whole = embed(model, rules)
    assert len({node.name for node in whole.graph.node}) == len(whole.graph.node)
    assert split(whole).core == model


def test_an_input_that_is_not_the_contracts_is_refused():
    with pytest.raises(ExportError, match="with-preprocessing"):
        embed(network(rules_of(3, "bilinear", "stretch")), rules_of(1, "bilinear", "stretch"))


@pytest.fixture(scope="module")
def deployed(trained, tmp_path_factory):
    """The trained network with its preprocessing inside."""
    file = tmp_path_factory.mktemp("whole") / "model.onnx"
    result = export(str(trained / "model.safetensors"), out=file, with_preprocessing=True)
    assert result.verdict.same, result.verdict
    assert result.contract.preprocessing_in_graph
    return result


def test_the_verdict_says_what_was_compared(deployed):
    check = deployed.verdict.checks[-1]
    assert check.name == "preprocessing"
    assert "100.00% of the pixels identical" in check.detail
    assert "logits within" in check.detail
    assert deployed.verdict.layers_compared > 4


def test_the_runtime_gives_the_same_answers_with_either_file(deployed, exported, digit_files):
    paths, _ = digit_files
    odd = [np.random.default_rng(3).integers(0, 256, size, np.uint8) for size in ((90, 30), (1, 7), (64, 64, 3))]
    with Predictor(deployed.file) as inside, Predictor(exported) as outside:
        assert inside.inputs[0].dtype == np.uint8
        inside.warm_up()
        ours = list(inside.predict_many([*paths, *odd, b"no image"], batch_size=7))
        theirs = list(outside.predict_many([*paths, *odd, b"no image"], batch_size=7))
    assert [a.label for a in ours] == [a.label for a in theirs]
    assert [a.error for a in ours] == [a.error for a in theirs]
    assert max(abs(a.score - b.score) for a, b in zip(ours, theirs, strict=True) if a.score is not None) < 1e-6


def test_validate_and_profile_take_the_file(deployed, trained):
    from deploykit.profiler import profile
    from deploykit.verdict import validate

    assert validate(deployed.file, checkpoint=trained / "model.safetensors").same
    found = profile(str(deployed.file), latency=False).document()
    assert next(layer for layer in found["layers"] if layer["path"] == "conv1")["input_shape"] == [1, 1, 32, 32]


def test_a_network_that_takes_arrays_has_no_preprocessing(cli):
    done = cli("export", "mlp", "--untrained", "--with-preprocessing", "--out", "model.onnx")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "no image preprocessing" in done.stderr


def constant(model, name):
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def colours_swapped(model, rules):
    tensor = next(node for node in model.graph.node if node.name == "preprocessing/Transpose")
    extra = helper.make_node("Gather", ["input", "preprocessing/bgr"], ["preprocessing/swapped"], name="preprocessing/Swap", axis=3)
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0]), "preprocessing/bgr"))
    tensor.input[0] = "preprocessing/swapped"
    nodes = [extra, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def mean_and_std_swapped(model, rules):
    std, mean = np.float32(rules.mean), np.float32(rules.std)
    for name, values in (("factor", np.float32(rules.scale) / std), ("offset", mean / std)):
        constant(model, f"preprocessing/{name}").CopyFrom(
            numpy_helper.from_array(values[:, None, None].astype(np.float32), f"preprocessing/{name}")
        )


def mean_a_little_off(model, rules):
    tensor = constant(model, "preprocessing/offset")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.002), tensor.name))


def antialias_missing(model, rules):
    """The window is never wider than for enlarging."""
    for node in model.graph.node:
        if node.op_type == "Max" and node.name in ("preprocessing/height/Max", "preprocessing/width/Max"):
            node.input[0] = node.input[1]


def crop_off_by_one(model, rules):
    for node in model.graph.node:
        if node.name == "preprocessing/width/Cast_1":
            break
    for inner in model.graph.node:
        inner.input[:] = ["preprocessing/moved" if name == node.output[0] else name for name in inner.input]
    one = numpy_helper.from_array(np.array(1), "preprocessing/one")
    model.graph.initializer.append(one)
    place = list(model.graph.node).index(node)
    nodes = list(model.graph.node)
    nodes.insert(
        place + 1,
        helper.make_node("Add", [node.output[0], "preprocessing/one"], ["preprocessing/moved"], name="preprocessing/Moved"),
    )
    del model.graph.node[:]
    model.graph.node.extend(nodes)


FAULTS = [colours_swapped, mean_and_std_swapped, mean_a_little_off, antialias_missing, crop_off_by_one]


@pytest.fixture(scope="module")
def colourful(tmp_path_factory):
    """A small network for colour photographs that are cropped, and its file."""
    from dataclasses import replace

    from deploykit.exporter import contract_of, to_onnx
    from deploykit.network import target as targets

    found = targets.resolve("cnn4", untrained=True, arguments={"in_channels": 3})
    rules = replace(
        found.rules, fit="center-crop", resize=found.rules.height + 8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    found = replace(found, rules=rules)
    model = embed(to_onnx(found), rules)
    onnx_file.set_contract(model, replace(contract_of(found, 20), preprocessing_in_graph=True))
    return found, model


@pytest.mark.parametrize("plant", [None, *FAULTS], ids=lambda f: getattr(f, "__name__", "clean"))
def test_a_planted_fault_is_found_and_the_preprocessing_is_blamed(colourful, plant):
    from deploykit.verdict import judge

    network, clean = colourful
    model = onnx.ModelProto()
    model.CopyFrom(clean)
    if plant is not None:
        plant(model, network.rules)
        onnx.checker.check_model(model)
    verdict = judge(model, network)
    assert verdict.verdict == ("same" if plant is None else "different"), verdict.checks
    assert verdict.blamed_step == (None if plant is None else "preprocessing")


def test_a_contract_that_promises_what_the_graph_has_not(colourful):
    from deploykit.verdict import judge

    network, clean = colourful
    model = split(clean).core
    onnx_file.set_contract(model, onnx_file.get_contract(clean))
    verdict = judge(model, network)
    assert verdict.verdict == "invalid"
    assert verdict.blamed_step == "preprocessing"
    assert "not in the graph" in verdict.checks[0].detail


def test_a_fault_behind_the_preprocessing_is_the_networks(colourful):
    from deploykit.verdict import judge

    network, clean = colourful
    model = onnx.ModelProto()
    model.CopyFrom(clean)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith(".weight") and len(tensor.dims) == 4)
    weights = numpy_helper.to_array(tensor).copy()
    weights.flat[3] += 0.01 * np.abs(weights).max()
    tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    verdict = judge(model, network, steps=[("export", split(model).core)])
    assert verdict.verdict == "different"
    assert verdict.blamed_step == "export"
    assert verdict.first_divergent_layer == tensor.name.rpartition(".")[0]


@pytest.mark.parametrize("axes", [None, (), (None, 3), (None, 3, 8, 8, 1), (None, 1, 8, 8), (None, 3, 9, 8)])
def test_an_input_that_does_not_take_the_images_gets_no_preprocessing(axes):
    rules = ImageInput(3, 8, 8)
    with pytest.raises(ExportError, match="it does not take the contract's images; export without --with-preprocessing"):
        embedding._check(GraphInput("x", axes, np.dtype(np.float32), "tensor"), rules)
    embedding._check(GraphInput("x", (None, 3, "height", 8), np.dtype(np.float32), "tensor"), rules)
