"""A user's own network of every task, from the user's own file: exported with its contract, proven, asked; and what is refused."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

import deploykit
from deploykit import Predictor, onnx_file, validate
from deploykit.errors import InputError
from deploykit.network.declared import labels_of
from deploykit.runtime import Classification, Detections, Embedding, MultiLabel, Regression, Segmentation
from deploykit.runtime.contract import ArrayInput, DetectionOutput, ImageInput, MultiLabelOutput, Output, SegmentationOutput
from deploykit.runtime.preprocessing import preprocess

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import own_networks as own  # noqa: E402

OPTIONS = {
    "Masks": (),
    "Boxes": ("--with-preprocessing", "--meaning", "boxes=centre and size", "--max-detections", "50"),
    "Vector": ("--image", "32x40", "--channels", "bgr", "--mean", "0.485,0.456,0.406", "--scale", "1/128", "--task", "embedding", "--normalize"),
    "Measure": ("--input-shape", "4", "--task", "regression", "--labels", "width,height", "--units", "mm,mm"),
    "Tags": ("--image", "24", "--fit", "center-crop", "--resize", "30", "--task", "multilabel", "--labels", "LABELS", "--threshold", "0.4,0.5,0.6"),
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory, run_in_process):
    """The files by the name of their network, each exported by the command; Pair by Python."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    found = {}
    for name, options in OPTIONS.items():
        given = [str(folder / "labels.txt") if option == "LABELS" else option for option in options]
        found[name] = folder / f"{name}.onnx"
        done = run_in_process("export", f"own_networks:{name}", *given, "--out", str(found[name]), "--format", "json")
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["verdict"]["verdict"] == "same"
    found["Pair"] = folder / "Pair.onnx"
    result = deploykit.export(own.Pair(), out=found["Pair"], image={"mean": 0.5}, output=Output("softmax", tuple("abcd")))
    assert result.verdict.same, result.verdict
    return found


@pytest.fixture(scope="module")
def run_in_process():
    """A command in this process, in the folder of the networks."""
    import os

    from click.testing import CliRunner

    from deploykit.cli import cli as commands

    def run(*arguments):
        before = Path.cwd()
        os.chdir(HERE)
        try:
            return CliRunner().invoke(commands, [str(each) for each in arguments], prog_name="deploykit")
        finally:
            os.chdir(before)

    return run


@pytest.fixture(scope="module")
def photographs():
    """scikit-learn's two photographs of 640x427."""
    from sklearn.datasets import load_sample_images

    return load_sample_images().images


def contract_of(file):
    return onnx_file.get_contract(onnx.load(file))


def test_what_was_said_stands_in_the_file(exported):
    found = {name: contract_of(file) for name, file in exported.items()}
    assert {name: (each.version, each.output.task) for name, each in found.items()} == {
        "Masks": (2, "segmentation"),
        "Boxes": (2, "detection"),
        "Vector": (2, "embedding"),
        "Measure": (2, "regression"),
        "Tags": (2, "multilabel"),
        "Pair": (2, "classification"),
    }
    assert (found["Masks"].input, found["Masks"].output) == (own.Masks.image_input, own.Masks.output)
    assert found["Boxes"].output == replace(own.Boxes.output, max_detections=50)
    assert (found["Boxes"].preprocessing_in_graph, found["Boxes"].meanings) == (True, {"boxes": "centre and size"})
    assert found["Vector"].input == ImageInput(3, 32, 40, scale=1 / 128, mean=(0.485, 0.456, 0.406), order="bgr")
    assert found["Measure"].output.units == ("mm", "mm")
    assert found["Tags"].input == ImageInput(3, 24, 24, fit="center-crop", resize=30)
    assert found["Tags"].output == MultiLabelOutput("sigmoid", ("red", "green", "blue"), threshold=(0.4, 0.5, 0.6))
    assert list(found["Pair"].inputs.items()) == [("image", ImageInput(3, 16, 16, mean=(0.5,))), ("facts", ArrayInput((5,)))]


def rewritten(file, folder, **changes):
    """A copy of the file with another contract: values for its `input`, its `output`, or `labels` swapped."""
    model = onnx.load(file)
    contract = onnx_file.get_contract(model)
    parts = {part: replace(getattr(contract, part), **values) for part, values in changes.items()}
    if "input" in parts and contract.inputs:
        first = next(iter(contract.inputs))
        parts["inputs"] = {**contract.inputs, first: parts["input"]}
    onnx_file.set_contract(model, replace(contract, **parts))
    path = folder / "wrong.onnx"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("Masks", {"input": {"mean": (0.4, 0.5, 0.5)}}, "says mean (0.4, 0.5, 0.5), the network was made for (0.4, 0.5, 0.6)"),
        ("Masks", {"input": {"order": "rgb"}}, "says order rgb"),
        ("Masks", {"input": {"fit": "stretch", "padding": (0,)}}, "says fit stretch"),
        ("Masks", {"output": {"labels": ("sky", "ground", "tree")}}, "label 0 is 'sky', not 'ground'"),
        ("Boxes", {"output": {"convention": "xyxy"}}, "says convention xyxy, the network was made for cxcywh"),
        ("Boxes", {"output": {"units": "relative"}}, "says units relative"),
        ("Boxes", {"output": {"iou_threshold": None}}, "says iou_threshold None"),
        ("Tags", {"output": {"threshold": 0.5}}, "says threshold 0.5"),
        ("Pair", {"input": {"mean": (0.6,)}}, "says mean (0.6,) of the input 'image'"),
        ("Measure", {"output": {"units": ("mm", "cm")}}, "says units ('mm', 'cm')"),
    ],
)
def test_a_wrong_contract_is_a_difference_and_is_named(exported, tmp_path, run_in_process, name, changes, said):
    wrong = rewritten(exported[name], tmp_path, **changes)
    done, detail = validated(run_in_process, exported, name, wrong)
    assert (done.exit_code, json.loads(done.stdout)["verdict"]) == (1, "different"), done.output
    assert said in detail


def validated(run_in_process, exported, name, file):
    """`validate` with what was said at the export, and what it says of the contract."""
    again = {"Pair": ("--mean", "0.5", "--labels", "a,b,c,d"), "Boxes": ("--max-detections", "50")}.get(name, OPTIONS.get(name))
    options = [exported[name].with_name("labels.txt") if option == "LABELS" else option for option in again]
    done = run_in_process("validate", file, "--against", f"own_networks:{name}", *options, "--format", "json", "--batches", "1,2")
    return done, next(check["detail"] for check in json.loads(done.stdout)["checks"] if check["name"] == "contract")


@pytest.mark.parametrize("name", ["Boxes", "Tags", "Pair"])
def test_the_right_contract_is_no_difference(exported, run_in_process, name):
    done, detail = validated(run_in_process, exported, name, exported[name])
    assert done.exit_code == 0, done.output
    assert "nothing of images" not in detail


def test_what_the_network_does_not_say_is_no_difference(exported):
    verdict = validate(exported["Vector"], own.Vector(), batches=[1, 2])
    assert verdict.same, verdict
    assert "says nothing of images" in next(check.detail for check in verdict.checks if check.name == "contract")
    with pytest.raises(InputError, match="its contract inside"):
        validate(exported["Vector"], exported["Vector"], image={"mean": 0.5})


def test_a_mask_has_the_size_of_the_photograph(exported, photographs):
    with Predictor(exported["Masks"], device="cpu") as model:
        found = model.predict(photographs[0])
    assert isinstance(found, Segmentation)
    assert found.mask.shape == (427, 640)
    inputs = torch.from_numpy(preprocess(Image.fromarray(photographs[0]), own.Masks.image_input))[None]
    with torch.no_grad():
        scores = own.Masks()(inputs)[0]
    # 640x427 fits into 64x48 as 64x43, 2 rows of padding above: in the middle of a score's own pixels they decide.
    expected = scores.argmax(0).numpy()
    y = np.arange(1, 11) * 4 + 2
    x = np.arange(16) * 4 + 2
    rows, columns = ((y - 2) * (427 / 43)).astype(int), (x * 10).astype(int)
    assert (found.mask[rows][:, columns] == expected[1:11]).mean() > 0.95


def test_boxes_are_those_of_the_same_steps_with_torchvision(exported, photographs):
    from torchvision.ops import batched_nms, box_convert
    from torchvision.transforms.v2 import functional

    for size in ((427, 640), (640, 427), (100, 333), (31, 17)):
        pixels = photographs[1][:, :, :] if size == (427, 640) else np.ascontiguousarray(np.resize(photographs[1], (*size, 3)))
        height, width = size
        ratio = min(64 / width, 64 / height)
        wide, high = max(1, int(width * ratio + 0.5)), max(1, int(height * ratio + 0.5))
        left, top = (64 - wide) // 2, (64 - high) // 2
        image = functional.resize(Image.fromarray(pixels), [high, wide])
        image = functional.pad(image, [left, top, 64 - wide - left, 64 - high - top], 114)
        tensor = functional.to_dtype(functional.pil_to_tensor(image), torch.float32, scale=True)
        with torch.no_grad():
            answer = own.Boxes()(tensor[None])
        scores, classes = answer["scores"][0].sigmoid().max(1)
        boxes = box_convert(answer["boxes"][0], "cxcywh", "xyxy")
        good = scores >= 0.5
        kept = batched_nms(boxes[good], scores[good], classes[good], 0.4)[:50]
        boxes = (boxes[good][kept] - torch.tensor([left, top, left, top])) * torch.tensor([width / wide, height / high] * 2)
        boxes = boxes.clamp(torch.zeros(4), torch.tensor([width, height] * 2))
        found = Predictor(exported["Boxes"], device="cpu").predict(pixels)
        assert isinstance(found, Detections)
        assert len(found.detections) == len(kept) > 3
        assert [d.index for d in found.detections] == classes[good][kept].tolist()
        np.testing.assert_allclose([d.box for d in found.detections], boxes.numpy(), atol=0.01)
        np.testing.assert_allclose([d.score for d in found.detections], scores[good][kept].numpy(), atol=1e-5)


def test_the_other_tasks(exported, photographs):
    with Predictor(exported["Vector"], device="cpu") as model:
        first, again = model.predict(photographs[0]), model.predict(Image.fromarray(photographs[0]))
    assert isinstance(first, Embedding)
    assert first == again
    assert np.linalg.norm(first.vector) == pytest.approx(1, abs=1e-6)
    measured = Predictor(exported["Measure"], device="cpu").predict(np.ones(4, np.float32))
    assert isinstance(measured, Regression)
    assert [(each.name, each.unit) for each in measured.quantities] == [("width", "mm"), ("height", "mm")]
    tagged = Predictor(exported["Tags"], device="cpu").predict(photographs[1], top=3)
    assert isinstance(tagged, MultiLabel)
    assert {each.label for each in tagged.top} == {"red", "green", "blue"}
    assert all(each.score >= (0.4, 0.5, 0.6)[each.index] for each in tagged.labels)


def test_two_inputs(exported, photographs):
    facts = np.arange(5, dtype=np.float32)
    with Predictor(exported["Pair"], device="cpu") as model:
        found = model.predict({"image": photographs[0], "facts": facts}, top=4)
    assert isinstance(found, Classification)
    image = torch.from_numpy(preprocess(Image.fromarray(photographs[0]), ImageInput(3, 16, 16, mean=(0.5,))))[None]
    with torch.no_grad():
        expected = own.Pair()(image, torch.from_numpy(facts)[None]).softmax(1)[0]
    assert found.score == pytest.approx(float(expected.max()), abs=1e-5)
    assert found.index == int(expected.argmax())


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("own_networks:Tags", "--image", "24", "--labels", "a,b"), "2 labels, the graph has"),
        (("own_networks:Tags", "--image", "24", "--task", "segmentation"), "a score per pixel"),
        (("own_networks:Tags", "--image", "24", "--boxes", "boxes"), "an output 'boxes'"),
        (("own_networks:Tags", "--image", "24", "--threshold", "0.5"), "--task multilabel, segmentation or detection"),
        (("own_networks:Tags", "--image", "24", "--task", "multilabel", "--threshold", "nan"), "threshold cannot be nan"),
        (("own_networks:Tags", "--image", "24", "--task", "multilabel", "--threshold", "0.1,0.2"), "2 thresholds"),
        (("own_networks:Tags", "--image", "24", "--mean", "1,2"), "length of mean"),
        (("own_networks:Tags", "--image", "24", "--std", "0"), "std"),
        (("own_networks:Tags", "--image", "24", "--labels", "none.txt"), "none.txt cannot be read"),
        (("own_networks:Tags", "--image", "24", "--task", "embedding", "--labels", "a,b,c"), "labels"),
        (("own_networks:Tags", "--image", "24", "--units", "mm", "--box-units", "pixels"), "--box-units"),
        (("own_networks:Tags", "--image", "24x"), "no size such as 224"),
        (("own_networks:Measure", "--input-shape", "4", "--image", "24"), "takes no image"),
        (("own_networks:Pair", "--image", "20"), "takes 3x16x16, the image is 3x20x20"),
        (("own_networks:Masks", "--meaning", "boxes"), "NAME=TEXT"),
        (("own_networks:Masks", "--meaning", "other=x"), "an output 'other'"),
        (("own_networks:Masks", "--output", "other"), "an output 'other'"),
        (("own_networks:Whole", "--image", "24", "--task", "detection"), '{"boxes": x[..., :4], "scores": x[..., 4:]}'),
        (("own_networks:Whole", "--image", "24", "--boxes", "logits"), '{"boxes": x[..., :4], "scores": x[..., 4:]}'),
        (("own_networks:Whole", "--image", "24", "--arg", "turned=true", "--task", "detection"), '"scores": x[:, 4:].mT}'),
        (("own_networks:Whole", "--image", "24", "--boxes", "logits", "--scores", "logits"), "let forward() return its parts"),
        (("own_networks:Front", "--image", "24", "--task", "segmentation", "--labels", "cat"), "--labels background,cat"),
        (("own_networks:Tags", "--image", "24", "--labels", "a,,c"), "one of the labels 'a,,c' is empty"),
        (("./own_networks:Tags", "--image", "24"), "give own_networks:Tags, where its file lies"),
        (("my nets/own:Tags", "--image", "24"), "give own:Tags in the folder my nets, where its file lies"),
        (("own_networks:Pair", "--mean", "0.5", "--with-preprocessing"), "has 2 inputs; the preprocessing of several cannot"),
    ],
)
def test_what_does_not_fit_is_one_line(run_in_process, tmp_path, options, problem):
    done = run_in_process("export", *options, "--out", tmp_path / "model.onnx")
    assert done.exit_code == 2, done.output
    said = done.stderr.strip().splitlines()[-1]
    assert problem in said, done.stderr
    assert not list(tmp_path.iterdir())


def test_labels_of_a_file(tmp_path):
    (tmp_path / "a.txt").write_text("cat\n\n dog \r\n", encoding="utf-8-sig")
    (tmp_path / "a.json").write_text('{"0": "cat", "1": "dog"}')
    (tmp_path / "b.json").write_text('{"dog": 1, "cat": 0}')
    (tmp_path / "c.json").write_text('["cat", "dog"]')
    for given in ("cat,dog", ["cat", "dog"], *sorted(tmp_path.iterdir())):
        assert labels_of(given) == ("cat", "dog"), given
    for name, text in (("d.json", "{"), ("e.json", "3"), ("f.json", '{"0": "cat", "2": "dog"}'), ("g.txt", ""), ("h.json", "[1]")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            labels_of(tmp_path / name)
    (tmp_path / "i.txt").write_bytes(b"\xff\xfe\xff")
    for wrong in (tmp_path / "i.txt", tmp_path, 3, [1], b"ab"):
        with pytest.raises(InputError):
            labels_of(wrong)


@pytest.mark.parametrize(
    ("image", "output", "problem"),
    [
        ({"size": 24}, None, "an image has no 'size'"),
        ({1: 2, "x": 3}, None, "an image has no 1"),
        ({"height": "a", "width": "b", "fit": "center-crop"}, None, "height"),
        ({"mean": "x"}, None, "mean"),
        ({"channels": "cmyk"}, None, "unknown channels 'cmyk'"),
        ({"other": {"height": 24}}, None, "no input 'other'"),
        (None, {"task": []}, r"unknown task \[\]"),
        (None, {"labels": 3}, "labels cannot be 3"),
        (None, {1: 2, "task": "embedding"}, "has no 1"),
        (None, {"task": "detection", "scores": 3}, "scores"),
        (None, {"task": "classification", "activation": "none"}, "without labels"),
    ],
)
def test_what_is_said_in_python_is_looked_at(image, output, problem):
    from deploykit.network.declared import Declared
    from deploykit.network.input_specs import InputSpec
    from deploykit.network.target import Network

    network = Network("own:Net", "Net", torch.nn.Identity(), (InputSpec("image", (3, 24, 24)),), ArrayInput((3, 24, 24)), Output())
    with pytest.raises(InputError, match=problem) as caught:
        network.described(Declared.of(image, output))
    assert "\n" not in str(caught.value)


def test_a_layer_called_output_says_nothing():
    class Usual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.output = torch.nn.Linear(4, 2)
            self.image_input = "none"

        def forward(self, x):
            return self.output(x)

    from deploykit.network.request import Request
    from deploykit.network.target import resolve

    network = resolve(Request.of(Usual(), input_shapes=(4,)))
    assert (network.output, network.rules, network.declared) == (Output(), ArrayInput((4,)), False)
    said = resolve(Request.of(own.Boxes()))
    assert isinstance(said.output, DetectionOutput)
    assert isinstance(resolve(Request.of(own.Masks())).output, SegmentationOutput)
    assert said.declared


def test_one_image_of_two_that_is_described_without_its_name_is_remarked():
    from deploykit.network.declared import Declared
    from deploykit.network.input_specs import InputSpec
    from deploykit.network.target import Network

    specs = (InputSpec("left", (3, 8, 8)), InputSpec("right", (3, 8, 8)), InputSpec("facts", (5,)))
    network = Network("own:Net", "Net", torch.nn.Identity(), specs, ArrayInput((3, 8, 8)), Output())
    one = network.described(Declared.of({"mean": 0.5}, None)).described(Declared.of({"mean": 0.4}, None))
    (remark,) = one.remarks
    assert "'left' was described as an image, 'right' takes an array" in remark
    both = one.described(Declared.of({"left": {"mean": 0.5}, "right": ImageInput(3, 8, 8)}, None))
    assert (both.remarks, sorted(both.images)) == ((), [0, 1])
