"""What is decided for a network that is not deploykit's: recipe, sizes of images, colours, arguments, the head. Nothing is trained."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from deploykit.architectures import ArrayInput, ImageInput, Recipe
from deploykit.datasets import Split
from deploykit.errors import DatasetError, InputError
from deploykit.training import own


def images(*sizes, mode="RGB", colour=0):
    return [Image.new(mode, size, colour) for size in sizes]


def data(samples, task="classification", classes=("a", "b"), targets=None):
    split = Split(samples, np.zeros(len(samples), np.int64) if targets is None else targets)
    return SimpleNamespace(train=split, task=task, classes=classes, name="made up")


def wanted(outputs=2, channels=3, task="classification", samples=None):
    return own._Wanted(data(samples or images((4, 4)), task), outputs, channels)


@pytest.mark.parametrize(
    ("samples", "most", "batch"),
    [(10_000, 32, 32), (512, 32, 32), (511, 32, 16), (256, 32, 16), (255, 32, 8), (1, 32, 8), (127, 8, 8), (10_000, 8, 8)],
)
def test_an_epoch_has_16_steps_where_the_samples_suffice(samples, most, batch):
    assert own._batch(samples, most) == batch


@pytest.mark.parametrize(
    ("task", "channels", "begun", "changes"),
    [
        ("classification", 3, False, {"augment": "crop-flip"}),
        ("classification", 1, False, {"augment": "affine"}),
        ("classification", 0, False, {}),
        ("classification", 3, True, {"augment": "crop-flip", "lr": 5e-4, "epochs": 10}),
        ("segmentation", 3, False, {"augment": "crop-flip", "batch_size": 8, "epochs": 40}),
        ("segmentation", 1, True, {"augment": "crop-flip", "batch_size": 8, "epochs": 20, "lr": 5e-4}),
        ("regression", 0, False, {"loss": "mse", "epochs": 40}),
        ("regression", 3, True, {"loss": "mse", "epochs": 20, "lr": 5e-4}),
    ],
)
def test_the_recipe_by_task_and_data(task, channels, begun, changes):
    usual = {
        "dataset": "own", "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.01, "schedule": "one-cycle", "epochs": 20,
        "batch_size": 16, "clip_norm": 1.0,
    }  # fmt: skip
    found = own._recipe(data(images(*[(4, 4)] * 256), task), "own", begun, wanted(channels=channels))
    assert found == Recipe(**usual | changes)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(40, 30)], [(30, 40), (32, 32), (224, 224), (28, 28), (64, 64)]),
        ([(224, 200)], [(200, 224), (192, 192), (224, 224)]),
        ([(225, 200)], [(192, 192), (224, 224)]),
        ([(900, 800)], [(224, 224), (32, 32)]),
        ([(100, 80), (70, 90)], [(64, 64), (224, 224), (32, 32)]),
        ([(8, 9)], [(9, 8), (32, 32), (224, 224)]),
    ],
)
def test_sizes_of_images_that_are_tried_and_their_order(sizes, expected):
    found = own._sizes(Split(images(*sizes), np.zeros(len(sizes), np.int64)))
    assert found[: len(expected)] == expected
    assert len(set(found)) == len(found)
    assert own.SIDES == (224, 32, 28, 64, 96, 128, 256, 299, 227)


def test_64_images_are_looked_at_from_the_first_to_the_last():
    class Looked(list):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    seen = []
    own._sizes(Split(Looked(images(*[(4, 4)] * 127)), np.zeros(127, np.int64)))
    assert seen == list(range(0, 127, 2))
    assert (own.LOOKED_AT, own.LARGEST) == (64, 224)


def test_what_the_data_ask_for():
    found, said = own._wanted(data(images((4, 4), mode="L")), "net", {})
    assert (found.outputs, found.channels, said) == (2, 1, False)
    coloured = data(images((4, 4), colour=(200, 0, 0)))
    found, said = own._wanted(coloured, "net", {})
    assert (found.outputs, found.channels, said) == (2, 3, False)
    found, said = own._wanted(coloured, "net", {"in_channels": 1})
    assert (found.channels, said) == (1, True)
    found, said = own._wanted(coloured, "net", {"n_channels": 7})
    assert (found.channels, said) == (3, True)
    arrays = data([np.zeros(5, np.float32)] * 3, "regression", None, np.zeros((3, 4), np.float32))
    found, said = own._wanted(arrays, "net", {"in_channels": 3})
    assert (found.outputs, found.channels, said) == (4, 0, False)
    both = data([*images((4, 4), mode="L"), *images((4, 4), colour=(200, 0, 0))])
    with pytest.raises(
        DatasetError, match=r"made up has images in grey and images in colour, from which net .*--arg in_channels=1 \(grey\)"
    ):
        own._wanted(both, "net", {})
    assert own._wanted(both, "net", {"in_chans": 3})[0].channels == 3


def plain(width): ...


def free(width, **others): ...


def several(n_classes, num_classes, in_chans): ...


@pytest.mark.parametrize(
    ("factory", "key", "name", "takes"),
    [
        (plain, "width", "x:plain", True), (plain, "in_channels", "x:plain", False), (free, "in_channels", "x:free", True),
        (free, "in_channels", "torchvision:resnet18", False), (free, "width", "torchvision:resnet18", True), (dict, "any", "x:dict", True),
    ],
)  # fmt: skip
def test_which_arguments_a_constructor_takes(factory, key, name, takes):
    assert own._takes(factory, key, name) is takes


def test_a_constructor_is_told_outputs_and_channels_by_its_own_names():
    assert own._arguments(several, wanted(7, 3), {}) == {"num_classes": 7, "in_chans": 3}
    assert own._arguments(several, wanted(7, 0), {}) == {"num_classes": 7}
    assert own._arguments(several, wanted(7, 3), {"n_classes": 5}) == {"in_chans": 3}, "who says one of them means it"
    assert own._arguments(several, wanted(7, 3), {"in_channels": 1}) == {"num_classes": 7}
    assert own._arguments(plain, wanted(7, 3), {}) == {}
    assert own._arguments(dict, wanted(7, 3), {}) == {}


@pytest.mark.parametrize(
    ("rules", "size", "resize"),
    [
        (ImageInput(3, 20, 20, fit="center-crop", resize=24), (30, 40), 40),
        (ImageInput(3, 20, 20, fit="center-crop", resize=24), (40, 30), 40),
        (ImageInput(3, 20, 20, fit="center-crop", resize=24), (20, 20), 24),
        (ImageInput(3, 20, 20), (30, 40), None),
    ],
)
def test_another_size_of_the_same_rules(rules, size, resize):
    found = own._resized(rules, *size)
    assert ((found.height, found.width), found.resize, found.fit) == (size, resize, rules.fit)


def test_inputs_that_are_tried():
    def tried(asked, said=False, image=None):
        return list(own._candidates("x:net", nn.Flatten(), {}, asked, said, image, None))

    assert tried(wanted(channels=0, samples=[np.zeros((5, 2), np.float32)])) == [ArrayInput((5, 2))]
    both = tried(wanted(channels=1, samples=images((40, 40))))
    assert [each.channels for each in both] == [1] * (len(both) // 2) + [3] * (len(both) // 2), (
        "as the images are, and then the other"
    )
    assert {each.channels for each in tried(wanted(channels=1), said=True)} == {1}
    assert tried(wanted(channels=3), image=(5, 6)) == [ImageInput(3, 5, 6), ImageInput(1, 5, 6)]
    knows = nn.Flatten()
    knows.image_input = ImageInput(1, 7, 9)
    assert list(own._candidates("x:net", knows, {}, wanted(), False, None, None)) == [ImageInput(1, 7, 9)]
    assert list(own._candidates("x:net", knows, {}, wanted(), False, (5, 6), None)) == [ImageInput(1, 5, 6)]


def test_the_first_input_that_is_taken_and_the_first_reason_where_none_is():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    first, right = ImageInput(3, 5, 5), ImageInput(3, 4, 4)
    rules, output, path = own._tried(net, [first, right, first], "net", None)
    assert (rules, tuple(output.shape), path) == (right, (2, 2), "1")
    with pytest.raises(InputError, match="5x5.*; give the size of its images: --image 96"):
        own._tried(net, [first, ImageInput(3, 6, 6)], "net", None)
    with pytest.raises(InputError, match="; choose another --image"):
        own._tried(net, [first], "net", (5, 5))
    with pytest.raises(InputError, match="; give arrays of the shape that it takes"):
        own._tried(net, [ArrayInput((7,))], "net", None)


def test_two_samples_are_tried_and_an_open_size_is_1():
    assert tuple(own._example(ImageInput(3, 4, 5)).shape) == (2, 3, 4, 5)
    assert tuple(own._example(ArrayInput((None, 6))).shape) == (2, 1, 6)
    assert torch.equal(own._example(ArrayInput((6,))), own._example(ArrayInput((6,))))


def test_the_head_that_is_replaced_and_what_is_said():
    net = nn.Sequential(nn.Flatten(), nn.Linear(8, 10))
    ten = torch.zeros(2, 10)
    assert own._head(net, ten, "1", wanted(10), "net") == (None, "")
    head, said = own._head(net, ten, "1", wanted(3), "net")
    assert (head.module, head.outputs, head.before, head.scaled) == ("1", 3, 10, False)
    assert said.startswith("head: 1 (")
    assert said.endswith(") was replaced by one of 3 outputs")
    head, said = own._head(net, ten, "1", wanted(10, 0, "regression"), "net")
    assert head.scaled
    assert said.endswith(") is fresh, and scaled to the targets")
    head, said = own._head(net, ten, "1", wanted(2, 0, "regression"), "net")
    assert said.endswith(") was replaced by one of 2 outputs, scaled to the targets")
    with pytest.raises(
        InputError,
        match="the layer that makes the 10 outputs of net cannot be found, and the data ask for 3; let its constructor take num_classes",
    ):
        own._head(net, ten, "", wanted(3), "net")
    assert own._width((2, 5)) == 5
    assert own._width((2,)) == 1


@pytest.mark.parametrize(
    ("shape", "task", "outputs", "reason"),
    [
        ((2, 5), "classification", 5, None),
        ((2, 5, 4, 4), "segmentation", 5, None),
        ((2, 5), "regression", 5, None),
        ((2,), "regression", 1, None),
        ((2,), "classification", 1, "net gives an output of 2 for two samples; a class for each sample needs 2x1"),
        ((2,), "regression", 2, "2 values for each sample need 2x2"),
        ((3,), "regression", 1, "1 values for each sample need 2x1"),
        (
            (2, 5, 4, 4),
            "classification",
            5,
            "an output of 2x5x4x4 for two samples; a class for each sample needs 2x5; choose another network",
        ),
        ((2, 5), "segmentation", 5, "a class for each pixel needs 2x5xHxW"),
        ((2, 4), "classification", 5, "a class for each sample needs 2x5"),
    ],
)
def test_the_outputs_that_a_task_needs(shape, task, outputs, reason):
    asked = wanted(outputs, 3, task)
    if reason is None:
        own._require_outputs(shape, asked, "net", None)
        return
    with pytest.raises(InputError, match=reason):
        own._require_outputs(shape, asked, "net", None)
    with pytest.raises(InputError, match="for two samples, also with another fc; "):
        own._require_outputs(shape, asked, "net", SimpleNamespace(module="fc"))


def test_colours_are_those_of_the_images_unless_they_are_known():
    notes = []
    halves = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in ((0, 51, 255), (255, 51, 255))]
    found = own._coloured(ImageInput(3, 4, 4), wanted(samples=halves), "net", notes)
    assert (found.mean, found.std) == ((0.5, 0.2, 1.0), (0.5, 1.0, 1.0)), "what is always the same is divided by 1"
    assert notes == []
    known = ImageInput(3, 4, 4, mean=(0.5,), std=(1.0,))
    assert own._coloured(known, wanted(samples=halves), "net", notes) is known
    own._coloured(ImageInput(1, 4, 4), wanted(samples=halves), "net", notes)
    own._coloured(ImageInput(3, 4, 4), wanted(channels=1, samples=images((4, 4), mode="L")), "net", notes)
    assert notes == [
        "the images are in colour, net takes grey ones: they are turned into those",
        "the images are grey, net takes RGB: they are turned into those",
    ]
