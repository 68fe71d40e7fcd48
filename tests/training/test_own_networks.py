"""Networks that deploykit does not ship learn from folders, masks and arrays, and their checkpoints are as good as shipped ones."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import nn

from deploykit.errors import CheckpointError, DatasetError, InputError
from deploykit.exporter import export
from deploykit.network import heads
from deploykit.network.checkpoint import load_checkpoint, save_checkpoint
from deploykit.network.target import resolve
from deploykit.runtime import Predictor
from deploykit.training import train
from deploykit.verdict import validate

SOURCE = '''
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


class Asks(Net):
    """Its constructor takes the number of classes, and has to."""

    def __init__(self, num_classes):
        super().__init__()
        self.head = nn.Linear(4, num_classes)


class Pixels(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.last = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 21, 1)

    def forward(self, x):
        return {"out": self.last(self.body(x).relu())}


class Values(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.last = nn.Linear(3, 16), nn.Linear(16, 1)

    def forward(self, x):
        return self.last(self.hidden(x).relu())


class Doubled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 5)

    def forward(self, x):
        return torch.cat([self.layer(x), self.layer(x)], 1)


class Pair(Net):
    def forward(self, x, facts):
        return super().forward(x) + facts


class Keyword(Net):
    def forward(self, *, x):
        return super().forward(x)


class Nothing(Net):
    def forward(self, x):
        return {}


def makes() -> nn.Module:
    return Net(3)


def says_nothing(width=3):
    return Net(width)


ready = Net()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a file of networks, and data: two classes of colours, shapes with masks, arrays."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "ownnets.py").write_text(SOURCE)
    draw = np.random.default_rng(0)
    for name, colour, count in (("red", (200, 40, 40), 24), ("blue", (40, 40, 200), 8)):
        (folder / "colours" / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.clip(np.array(colour) + draw.normal(0, 20, (20, 20, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "colours" / name / f"{number}.png")
    for sub in ("images", "masks"):
        (folder / "shapes" / sub).mkdir(parents=True)
    for number in range(12):
        pixels, mask = draw.integers(0, 60, (12, 16, 3)).astype(np.uint8), np.zeros((12, 16), np.uint8)
        top, left = draw.integers(0, 6), draw.integers(0, 8)
        mask[top : top + 5, left : left + 6] = 255
        pixels[mask == 255] += 150
        Image.fromarray(pixels).save(folder / "shapes" / "images" / f"{number}.jpg", quality=95)
        Image.fromarray(mask).save(folder / "shapes" / "masks" / f"{number}.png")
    x = draw.normal(size=(120, 3)).astype(np.float32)
    np.savez(folder / "values.npz", x=x, y=3000 + 500 * x[:, 0])
    return folder


@pytest.fixture(autouse=True)
def here(place, monkeypatch):
    monkeypatch.chdir(place)


@pytest.fixture(scope="module")
def classifier(place, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        folder = tmp_path_factory.mktemp("net")
        return train("ownnets:Net", data="colours", epochs=8, batch_size=4, lr=0.02, device="cpu", out=folder)


def header(file):
    with safe_open(file, "pt") as opened:
        return json.loads(opened.metadata()["deploykit"])


def test_a_class_of_ones_own_learns_a_folder_and_all_that_was_decided_is_said_and_kept(classifier):
    assert classifier.metrics["train"] > 0.9
    assert classifier.name == "ownnets:Net"
    assert "head: head (Linear, 4 -> 10) was replaced by one of 2 outputs" in classifier.notes
    assert "images: 20x20 pixels, RGB" in classifier.notes
    assert "the classes are unbalanced (20 red and 6 blue): the rare ones count more in the loss" in classifier.notes
    kept = header(classifier.checkpoint)
    assert (kept["architecture"], kept["task"], kept["classes"]) == ("ownnets:Net", "classification", ["blue", "red"])
    assert kept["head"] == {"module": "head", "outputs": 2, "before": 10, "scaled": False}
    assert kept["recipe"]["augment"] == "crop-flip"
    assert 0.5 < kept["input"]["mean"][0] < 0.8


@pytest.mark.slow
def test_its_checkpoint_is_a_target_like_any_other(classifier):
    found = export(classifier.checkpoint)
    assert found.verdict.same
    assert validate(found.file).same, "the checkpoint beside the file says what it was made from"
    with Predictor(found.file) as model:
        assert model.predict("colours/red/0.png").label == "red"
    network = resolve("ownnets:Net", checkpoint=classifier.checkpoint)
    assert network.output.labels == ("blue", "red")
    with pytest.raises(InputError, match="are recorded in it"):
        resolve("ownnets:Net", checkpoint=classifier.checkpoint, arguments={"width": 4})


class Stop(Exception):
    pass


class StopAfter:
    def __init__(self, steps):
        self.left = steps

    def start(self, task, total=None):
        pass

    def say(self, line):
        pass

    def advance(self, steps=1, note=""):
        self.left -= 1
        if self.left < 0:
            raise Stop


@pytest.mark.parametrize(("name", "data"), [("Net", "colours"), ("Pixels", "shapes"), ("Values", "values.npz")])
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(tmp_path, name, data):
    options = {"data": data, "epochs": 3, "device": "cpu", "batch_size": 4}
    whole = train(f"ownnets:{name}", out=tmp_path / "whole", **options)
    steps = {"Net": 7 + 3, "Pixels": 3 + 2, "Values": 24 + 5}[name]
    with pytest.raises(Stop):
        train(f"ownnets:{name}", out=tmp_path / "parts", progress=StopAfter(steps), **options)
    parts = train(f"ownnets:{name}", out=tmp_path / "parts", resume=True, **options)
    assert whole.checkpoint.read_bytes() == parts.checkpoint.read_bytes()


def test_a_constructor_that_takes_the_number_of_classes_is_given_it(tmp_path):
    result = train("ownnets:Asks", data="colours", epochs=1, device="cpu", out=tmp_path)
    assert header(result.checkpoint)["arguments"] == {"num_classes": 2}
    assert not any("head" in note for note in result.notes)
    state = dict(load_checkpoint(result.checkpoint).tensors)
    state["head.weight"], state["head.bias"] = torch.zeros(7, 4), torch.zeros(7)
    torch.save(state, tmp_path / "seven.pt")
    begun = train("ownnets:Asks", data="colours", init=tmp_path / "seven.pt", epochs=1, device="cpu", out=tmp_path / "begun")
    assert "in the first epoch head learns alone" in begun.notes, "a head for other classes is fresh"
    assert torch.equal(load_checkpoint(begun.checkpoint).tensors["body.0.weight"], state["body.0.weight"])


def test_with_weights_to_start_from_the_body_waits_for_the_head(tmp_path, classifier):
    state = dict(load_checkpoint(classifier.checkpoint).tensors)
    state["head.weight"], state["head.bias"] = torch.zeros(10, 4), torch.zeros(10)
    torch.save(state, tmp_path / "w.pt")
    one = train("ownnets:Net", data="colours", init=tmp_path / "w.pt", epochs=1, device="cpu", out=tmp_path / "one")
    after = load_checkpoint(one.checkpoint).tensors
    assert "in the first epoch head learns alone" in one.notes
    for name, tensor in state.items():
        assert torch.equal(after[name], tensor) != name.startswith("head."), name
    two = train("ownnets:Net", data="colours", init=tmp_path / "w.pt", epochs=2, device="cpu", out=tmp_path / "two")
    assert not torch.equal(load_checkpoint(two.checkpoint).tensors["body.0.weight"], state["body.0.weight"])
    again = train("ownnets:Net", data="colours", init=classifier.checkpoint, epochs=1, device="cpu", out=tmp_path / "again")
    assert not any("learns alone" in note for note in again.notes), "its head fits, so it need not be learned first"


def test_classes_of_pixels_are_learned_from_masks(tmp_path):
    result = train("ownnets:Pixels", data="shapes", epochs=25, lr=0.02, device="cpu", out=tmp_path)
    assert (result.metric, result.metrics["train"] > 0.8) == ("mean_iou", True), result.metrics
    assert "head: last (Conv2d, 6 -> 21) was replaced by one of 2 outputs" in result.notes
    card = (tmp_path / "card.md").read_text()
    assert "| class | IoU | pixels |" in card
    assert "| foreground |" in card
    network = resolve(str(result.checkpoint))
    assert (network.output.task, network.output.labels) == ("segmentation", ("background", "foreground"))
    assert {"validation_mean_iou", "validation_loss"} <= set(result.history[-1])


def test_values_are_learned_from_arrays_in_their_own_unit(tmp_path):
    result = train("ownnets:Values", data="values.npz", epochs=40, lr=0.02, device="cpu", out=tmp_path)
    assert result.metric == "mae"
    assert result.metrics["test"] < 60, "of values between 1500 and 4500, without scaling it would be thousands"
    assert "head: last (Linear, 16 -> 1) is fresh, and scaled to the targets" in result.notes
    network = resolve(str(result.checkpoint))
    assert network.output.task == "regression"
    assert abs(network.module(torch.zeros(1, 3)).item() - 3000) < 200


def forged(tmp_path, kept, **changes):
    path = tmp_path / "forged.safetensors"
    save_checkpoint(type(kept)(**{**vars(kept), **changes}), path)
    return path


def test_a_file_alone_does_not_choose_what_code_runs(tmp_path, classifier, monkeypatch):
    kept = load_checkpoint(classifier.checkpoint)
    (tmp_path / "script.py").write_text("import sys\nsys.imported_by_a_file = True\nfrom torch.nn import Linear\nx = Linear\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in (
        "subprocess:Popen",
        "os:system",
        "script:Linear",
        "script:x",
        "script:nothing",
        "no_such:Net",
        "torch.hub:load",
        "a.b.c:d",
    ):
        with pytest.raises(CheckpointError, match=r"no such class or function here|does not say that it makes networks"):
            load_checkpoint(forged(tmp_path, kept, architecture=name)).build()
    assert not hasattr(sys, "imported_by_a_file")
    silent = forged(tmp_path, kept, architecture="ownnets:says_nothing", arguments={"width": 4})
    with pytest.raises(CheckpointError, match="a file may not choose what code runs"):
        resolve(str(silent))
    assert resolve("ownnets:says_nothing", checkpoint=silent).output.labels == ("blue", "red"), "the user named it"


@pytest.mark.parametrize(
    "head",
    [
        {"module": "head", "outputs": 2, "before": 10**9, "scaled": False},
        {"module": 3, "outputs": 2, "before": 10, "scaled": False},
        {"module": "head", "outputs": True, "before": 10, "scaled": False},
        {"module": "head"},
        [],
    ],
)
def test_a_head_that_is_none_is_a_damaged_header(tmp_path, classifier, head):
    from safetensors.torch import load_file, save_file

    found = header(classifier.checkpoint) | {"head": head}
    save_file(load_file(classifier.checkpoint), tmp_path / "x.safetensors", {"deploykit": json.dumps(found)})
    with pytest.raises(CheckpointError, match="header of .* is damaged"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_head_that_the_network_does_not_have_is_refused(tmp_path, classifier):
    kept = load_checkpoint(classifier.checkpoint)
    for module in ("", "body", "body.0.weight", "nowhere", "body.2"):
        with pytest.raises((CheckpointError, InputError), match="head|more elements"):
            load_checkpoint(forged(tmp_path, kept, head=heads.Head(module, 2, 10))).build()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        (
            "ownnets:Doubled",
            "values.npz",
            "the layer that makes the 10 outputs of ownnets:Doubled cannot be found, and the data ask for 1",
        ),
        ("ownnets:Net", None, "has no data of its own"),
        ("ownnets:ready", "colours", "is a network already"),
        ("ownnets:Nett", "colours", "has no 'Nett'"),
        ("no_such_file:Net", "colours", "cannot import 'no_such_file'"),
        ("ownnets:Values", "colours", "cannot take an input of"),
        ("ownnets:Net", "shapes", "a class for each pixel needs 2x2xHxW"),
        ("torchvision:resnet81", "colours", "torchvision network"),
        ("ownnets:Pair", "colours", r"forward\(\) of ownnets:Pair needs x, facts; what is learned from has one input"),
        ("ownnets:Keyword", "colours", r"forward\(\) of ownnets:Keyword needs x; what is learned from has one input"),
        ("ownnets:Nothing", "colours", "returns no tensor; return a tensor, or lists"),
        ("ownnets:Net", "nowhere", "dataset"),
        ("x/model.safetensors", "colours", "is a file, and what is trained is a network; name it, and start"),
        ("lenet5", "shapes", "has masks, and lenet5 gives no class for each pixel but 1x2"),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is_written(tmp_path, name, data, reason):
    with pytest.raises(InputError, match=reason):
        train(name, data=data, epochs=1, device="cpu", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_grey_and_coloured_images_together_are_refused_until_it_is_said_what_they_are(tmp_path):
    for number in range(6):
        for name, mode in (("a", "L"), ("b", "RGB")):
            (tmp_path / "mixed" / name).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 20), (200, 10 * number, 0)).convert(mode).save(tmp_path / "mixed" / name / f"{number}.png")
    with pytest.raises(DatasetError, match="images in grey and images in colour"):
        train("ownnets:Net", data=tmp_path / "mixed", epochs=1, device="cpu", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    options = {"data": tmp_path / "mixed", "epochs": 0, "device": "cpu", "out": tmp_path / "out"}
    assert header(train("ownnets:Net", arguments={"in_channels": 3}, **options).checkpoint)["arguments"] == {}
    with pytest.raises(InputError, match="cannot take an input of 2x1x20x20"):
        train("ownnets:Net", arguments={"in_channels": 1}, **options)


def test_grey_images_are_turned_into_colours_for_a_network_that_takes_those(tmp_path):
    for name, value in (("dark", 20), ("light", 220)):
        (tmp_path / "grey" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (20, 20), value + number).save(tmp_path / "grey" / name / f"{number}.png")
    result = train("ownnets:Net", data=tmp_path / "grey", epochs=1, device="cpu", out=tmp_path / "out")
    assert "the images are grey, ownnets:Net takes RGB: they are turned into those" in result.notes
    assert header(result.checkpoint)["recipe"]["augment"] == "affine", "a mirrored letter is no letter"


def test_a_module_and_a_file_are_no_names(tmp_path):
    for wrong in (nn.Linear(2, 2), tmp_path / "model.onnx"):
        with pytest.raises(InputError, match="what is trained has a name"):
            train(wrong)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1", "vit_b_16", "swin_t", "densenet121"])
def test_the_heads_of_torchvision_are_found(name):
    from torchvision import models

    with torch.device("meta"):
        network = models.get_model_builder(name)().eval()
        example = torch.zeros(2, 3, 224, 224)
        _, path = heads.watch(network, example, name)
        heads.replace(network, heads.Head(path, 7, 1000))
        assert heads.watch(network, example, name)[0].shape == (2, 7)


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 4, 3, stride=2, bias=False), nn.ConvTranspose2d(3, 4, 2, stride=2), nn.Linear(3, 4)]
)
def test_a_replaced_layer_differs_in_its_width_alone(layer):
    network = nn.Sequential(nn.Identity(), layer)
    heads.replace(network, heads.Head("1", 6, 4))
    fresh = network[1]
    assert heads.width(fresh) == 6
    for key in ("kernel_size", "stride", "padding", "output_padding", "in_features", "in_channels"):
        assert getattr(fresh, key, None) == getattr(layer, key, None)
    assert (fresh.bias is None) == (layer.bias is None)


def test_sizes_of_images_are_read_in_every_form(tmp_path):
    for image, wanted in ((32, (32, 32)), ("24", (24, 24)), ("24x32", (24, 32)), ((16, 24), (16, 24))):
        found = train("ownnets:Net", data="colours", epochs=0, image=image, device="cpu", out=tmp_path / str(image))
        kept = header(found.checkpoint)["input"]
        assert (kept["height"], kept["width"]) == wanted
    for wrong in ("big", 0, "1x2x3", (3, -1)):
        with pytest.raises(InputError, match="the size of images cannot be"):
            train("ownnets:Net", data="colours", image=wrong, out=tmp_path / "x")
    with pytest.raises(InputError, match="has an input of its own"):
        train("lenet5", image=32, out=tmp_path / "x")
