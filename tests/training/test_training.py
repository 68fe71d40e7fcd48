"""Training makes what it promises, repeats itself to the bit, and survives being killed."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from deploykit import architectures, files
from deploykit.architectures import ImageInput
from deploykit.errors import (
    CheckpointError,
    DatasetError,
    DeviceUnavailable,
    InputError,
    OutputError,
    TrainingDiverged,
    UnknownName,
)
from deploykit.network.checkpoint import load_checkpoint, read_resume, read_weights
from deploykit.training import loop, train
from deploykit.training.augment import augment
from deploykit.training.loop import background
from deploykit.training.optimization import Order, schedule
from deploykit.training.processes import Processes


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def quick(folder, **options):
    return train("lenet5", **{"epochs": 3, "limit": 200, "out": folder, "device": "cpu", **options})


def test_a_run_leaves_a_checkpoint_a_history_curves_and_a_card(tmp_path):
    result = quick(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "card.md", "curves.png", "history.csv", "history.json", "model.safetensors",
    ]  # fmt: skip
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert loaded.metrics["test"] == result.metrics["test"]
    assert (loaded.dataset, loaded.seed, loaded.classes) == ("digits", 0, tuple("0123456789"))
    rows = list(csv.DictReader((tmp_path / "history.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert json.loads((tmp_path / "history.json").read_text())["result"]["epochs"] == 3
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.size[0] > 400
    assert "lenet5" in (tmp_path / "card.md").read_text()


def test_the_random_numbers_of_the_caller_go_on(tmp_path):
    before = torch.random.get_rng_state()
    quick(tmp_path, epochs=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_one_seed_gives_one_network_and_two_seeds_two(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        quick(tmp_path / name, seed=seed)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert weights(tmp_path / "a") != weights(tmp_path / "c")


class Stop(Exception):
    pass


class StopAfter:
    """A listener that ends the run after so many steps, wherever that is."""

    def __init__(self, steps):
        self.left = steps

    def start(self, task, total=None):
        pass

    def say(self, line):
        pass

    def advance(self, steps=1, note=""):
        self.left -= steps
        if self.left < 0:
            raise Stop


@pytest.mark.parametrize("steps", [1, 4, 5, 9])
def test_an_interrupted_run_that_is_resumed_makes_the_same_weights(tmp_path, steps):
    quick(tmp_path / "whole")
    with pytest.raises(Stop):
        quick(tmp_path / "cut", progress=StopAfter(steps))
    if (tmp_path / "cut" / "resume.pt").exists():
        quick(tmp_path / "cut", resume=True)
    else:
        quick(tmp_path / "cut")
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert not (tmp_path / "cut" / "resume.pt").exists()


def test_resuming_a_finished_run_gives_its_result(tmp_path):
    first = quick(tmp_path)
    before = weights(tmp_path)
    assert quick(tmp_path, resume=True) == first
    assert weights(tmp_path) == before


def test_an_earlier_run_is_set_aside_and_not_overwritten(tmp_path):
    first = quick(tmp_path)
    before = weights(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"exported")
    with pytest.raises(Stop):
        quick(tmp_path, seed=1, progress=StopAfter(2))
    assert weights(tmp_path) == before, "nothing changes before the first epoch is done"
    assert not list(tmp_path.glob("*previous*"))
    with pytest.raises(Stop):
        quick(tmp_path, seed=1, progress=StopAfter(5))
    kept = tmp_path / "previous-1"
    assert weights(kept) == before != weights(tmp_path)
    assert quick(kept, resume=True) == first, "the set is whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.safetensors", "previous-1", "resume.pt"]

    second = quick(tmp_path, seed=1, resume=True)
    assert second.previous == kept
    assert not (tmp_path / "previous-2").exists(), "a run that goes on has no earlier one"
    third = quick(tmp_path, seed=2, epochs=0)
    assert third.previous == tmp_path / "previous-2"
    assert (tmp_path / "previous-2" / "history.json").exists()


def test_an_earlier_run_whose_weights_are_a_link_is_kept_and_the_link_stays(tmp_path):
    quick(tmp_path / "run")
    before = weights(tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").rename(tmp_path / "store.safetensors")
    (tmp_path / "run" / "model.safetensors").symlink_to(tmp_path / "store.safetensors")
    quick(tmp_path / "run", seed=1)
    assert (tmp_path / "run" / "model.safetensors").is_symlink()
    assert (tmp_path / "store.safetensors").read_bytes() == weights(tmp_path / "run") != before
    assert weights(tmp_path / "run" / "previous-1") == before


def test_an_interrupted_run_that_is_started_anew_can_still_be_resumed(tmp_path):
    quick(tmp_path / "whole")
    with pytest.raises(Stop):
        quick(tmp_path / "cut", progress=StopAfter(5))
    left = tmp_path / "cut" / f".deploykit-scratch-{'0' * 16}.tmp"  # of a run that was killed there
    left.mkdir()
    (left / files.MARKER).write_bytes(files._marker(left))
    quick(tmp_path / "cut", seed=1)
    quick(tmp_path / "cut" / "previous-1", resume=True)
    assert weights(tmp_path / "cut" / "previous-1") == weights(tmp_path / "whole")
    assert not list((tmp_path / "cut").glob(".*"))


def test_an_earlier_run_that_cannot_be_set_aside_is_not_overwritten(tmp_path, monkeypatch):
    from deploykit.training import earlier

    quick(tmp_path)
    before = weights(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(earlier.os, "link", full)
    monkeypatch.setattr(earlier.shutil, "copy2", full)
    with pytest.raises(OutputError, match=r"set the earlier run in .* aside: no space left"):
        quick(tmp_path, seed=1)
    assert weights(tmp_path) == before
    assert (tmp_path / "card.md").exists()


def test_there_must_be_something_of_this_run_to_resume(tmp_path):
    with pytest.raises(InputError, match=r"nothing to resume in .*resume\.pt is not there"):
        quick(tmp_path, resume=True)
    train("lenet", epochs=0, limit=2, out=tmp_path, device="cpu")
    with pytest.raises(InputError, match=r"the run that ended there is another: its architecture is 'lenet', not 'lenet5'"):
        quick(tmp_path, resume=True)
    with pytest.raises(Stop):
        quick(tmp_path, progress=StopAfter(5))
    with pytest.raises(InputError, match=r"another run: its seed is 0, not 1"):
        quick(tmp_path, resume=True, seed=1)
    (tmp_path / "resume.pt").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match=r"resume\.pt"):
        quick(tmp_path, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    quick(tmp_path)
    before = weights(tmp_path)
    with pytest.raises(TrainingDiverged, match=r"no longer finite.*--lr"):
        quick(tmp_path, lr=1e12)
    assert weights(tmp_path) == before
    assert TrainingDiverged.exit_status == 1


def split_with(targets, split, name="my-linear"):
    """The dataset of an architecture, of which one split has these targets instead."""
    from dataclasses import replace

    from deploykit import datasets

    dataset = datasets.load(architectures.get(name).recipe.dataset)
    old = getattr(dataset, split)
    return replace(dataset, **{split: replace(old, targets=np.full_like(old.targets, targets))})


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("epochs", [0, 1])
def test_a_metric_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, split, epochs):
    dataset = split_with(3e30, split)  # whose square is more than float32 can hold
    monkeypatch.setattr("deploykit.datasets.load", lambda *_: dataset)
    what = "loss" if split == "train" and epochs else f"{split} mse"
    with pytest.raises(TrainingDiverged, match=f"the {what} is no longer finite"):
        train("my-linear", epochs=epochs, out=tmp_path, device="cpu")
    assert not (tmp_path / "history.json").exists()
    if split != "test" or not epochs:
        assert not list(tmp_path.iterdir())


def test_a_classifier_whose_outputs_are_nan_has_no_accuracy(tmp_path, monkeypatch):
    """The loss of a batch is known before the step: the last step of an epoch can break the network unseen."""
    quick(tmp_path)
    before = weights(tmp_path)
    train_epoch = loop._train_epoch

    def breaks(model, *args):
        loss = train_epoch(model, *args)
        torch.nn.init.constant_(next(model.parameters()), torch.nan)
        return loss

    monkeypatch.setattr(loop, "_train_epoch", breaks)
    with pytest.raises(TrainingDiverged, match="the validation accuracy is no longer finite"):
        quick(tmp_path, seed=1)
    assert weights(tmp_path) == before


def test_numbers_of_numpy_are_numbers(tmp_path):
    options = {"epochs": 2, "batch_size": 32, "lr": 0.25, "limit": 64, "seed": 3, "patience": 5}
    kinds = {int: np.int64, float: np.float32}
    plain = train("mlp", arguments={"hidden": 8}, out=tmp_path / "a", device="cpu", **options)
    options = {name: kinds[type(value)](value) for name, value in options.items()}
    numpy = train("mlp", arguments={"hidden": np.int64(8)}, out=tmp_path / "b", device="cpu", **options)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")
    assert load_checkpoint(numpy.checkpoint).arguments == load_checkpoint(plain.checkpoint).arguments
    assert train("mlp", arguments={"hidden": np.int64(8)}, out=tmp_path / "b", device="cpu", resume=True, **options) == numpy


@pytest.mark.parametrize("value", [np.ones(1), float("nan"), {1}, b"8", torch.tensor(8), [object()]])
def test_an_argument_that_a_checkpoint_cannot_keep_is_refused_before_the_first_epoch(tmp_path, value):
    with pytest.raises(InputError, match="cannot train mlp with hidden=.*: a checkpoint cannot keep it"):
        train("mlp", arguments={"hidden": value}, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_a_class_whose_name_a_checkpoint_cannot_keep_is_refused_before_the_first_epoch(tmp_path):
    folder_of_images(tmp_path / "images", 2)
    (tmp_path / "images" / "class1").rename(tmp_path / "images" / "caf\udce9")
    with pytest.raises(DatasetError, match=r"caf\\udce9.*not UTF-8"):
        train("lenet5", data=tmp_path / "images", epochs=1, out=tmp_path / "out", device="cpu")
    assert not (tmp_path / "out").exists()


def test_the_metrics_are_those_of_the_float32_weights_that_are_saved(tmp_path):
    from deploykit import datasets

    result = quick(tmp_path, precision="bf16", epochs=2)
    loaded = load_checkpoint(result.checkpoint)
    test = datasets.load("digits").test
    with torch.no_grad():
        answers = loaded.build()(torch.from_numpy(test.arrays(loaded.input))).argmax(dim=1)
    assert result.metrics["test"] == pytest.approx(float((answers.numpy() == test.targets).mean()), abs=1e-9)


def scaled(monkeypatch):
    """Gradients scaled so much that the first steps overflow, on the CPU too."""
    monkeypatch.setattr(
        Processes, "scaler", lambda self: torch.amp.GradScaler("cpu", init_scale=2.0**24, growth_interval=3, enabled=True)
    )


def test_a_run_with_scaled_gradients_that_is_resumed_makes_the_same_weights(tmp_path, monkeypatch):
    scaled(monkeypatch)
    run = {"epochs": 4, "limit": 192, "precision": "fp16", "device": "cpu"}
    train("mlp", out=tmp_path / "whole", **run)
    with pytest.raises(Stop):
        train("mlp", out=tmp_path / "cut", progress=StopAfter(8), **run)
    kept = read_resume(tmp_path / "cut" / "resume.pt")["tensors"]
    assert kept["scaler"]["scale"] < 2.0**24, "steps were skipped"
    assert kept["scheduler"]["last_epoch"] < 6, "and the schedule waited"
    train("mlp", out=tmp_path / "cut", resume=True, **run)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_a_state_from_before_the_scaler_was_kept_is_resumed(tmp_path):
    quick(tmp_path / "whole")
    with pytest.raises(Stop):
        quick(tmp_path / "cut", progress=StopAfter(5))
    content = read_resume(tmp_path / "cut" / "resume.pt")
    del content["tensors"]["scaler"]
    torch.save(content, tmp_path / "cut" / "resume.pt")
    quick(tmp_path / "cut", resume=True)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_early_stopping_ends_before_the_last_epoch(tmp_path):
    result = quick(tmp_path, epochs=30, patience=2, lr=1e-7)
    assert result.epochs < 30


def test_zero_epochs_write_the_fresh_network(tmp_path):
    result = quick(tmp_path, epochs=0)
    assert result.history == []
    assert result.metrics["test"] < 0.5


def folder_of_images(root, classes, mode="RGB", count=12):
    generator = np.random.Generator(np.random.PCG64(0))
    for label in range(classes):
        (root / f"class{label}").mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 255, (20, 24, 3), np.uint8)
            Image.fromarray(pixels).convert(mode).save(root / f"class{label}" / f"{index}.png")


def test_folders_in_colour_are_trained_in_colour_and_the_result_says_so(tmp_path):
    images = tmp_path / "images"
    folder_of_images(images, 2, count=4)

    def run(name, out, **options):
        result = train(name, data=images, epochs=0, limit=2, out=tmp_path / out, device="cpu", **options)
        return load_checkpoint(result.checkpoint).arguments["in_channels"], result

    channels, found = run("lenet5", "colour")
    assert channels == 3
    assert list(found.notes) == found.document()["notes"]
    assert "in_channels=3" in found.notes[0]
    assert run("lenet5", "said", arguments={"in_channels": 1})[0] == 1
    assert run("resnet18-cifar", "is")[1].notes == ()
    assert train("lenet5", epochs=0, limit=2, out=tmp_path / "digits", device="cpu").notes == ()
    with pytest.raises(CheckpointError, match=r"for 1 channel, the network takes 3; add --arg in_channels=1"):
        start = tmp_path / "digits" / "model.safetensors"
        run("lenet5", "forced", arguments={"in_channels": 3}, init=start)
    channels, found = run("lenet5", "as-init", init=start)
    assert channels == 1
    assert "turned grey" in found.notes[0]


def test_grey_folders_are_trained_in_grey(tmp_path):
    folder_of_images(tmp_path / "images", 2, mode="L", count=4)
    result = train("lenet5", data=tmp_path / "images", epochs=0, limit=2, out=tmp_path / "out", device="cpu")
    assert load_checkpoint(result.checkpoint).arguments["in_channels"] == 1
    assert result.notes == ()


def test_the_head_follows_the_dataset_and_init_starts_from_other_classes(tmp_path):
    pytest.importorskip("deploykit.datasets.folder")
    folder_of_images(tmp_path / "images", 3)
    quick(tmp_path / "ten")
    result = train(
        "lenet5",
        data=str(tmp_path / "images"),
        epochs=1,
        out=tmp_path / "three",
        init=tmp_path / "ten" / "model.safetensors",
        device="cpu",
    )
    loaded = load_checkpoint(result.checkpoint)
    assert loaded.arguments["classes"] == 3
    assert loaded.classes == ("class0", "class1", "class2")
    assert loaded.tensors["linear7.weight"].shape == (3, 84)


def test_init_leaves_out_what_the_network_does_not_have(tmp_path):
    quick(tmp_path / "first", epochs=0, limit=2)
    weights = load_checkpoint(tmp_path / "first" / "model.safetensors").tensors
    torch.save({"model": {**weights, "teacher.weight": torch.zeros(2)}, "epoch": 3}, tmp_path / "w.pt")
    result = quick(tmp_path / "second", epochs=0, limit=2, init=tmp_path / "w.pt")
    assert any("the checkpoint also holds 'model.teacher.weight': left over" in note for note in result.notes), result.notes
    assert torch.equal(load_checkpoint(result.checkpoint).tensors["linear7.weight"], weights["linear7.weight"])


def test_init_with_weights_that_do_not_fit_names_the_first_tensor(tmp_path):
    train("resnet18", epochs=0, limit=2, out=tmp_path / "r", device="cpu")
    with pytest.raises(CheckpointError, match=r"'conv1.weight' of shape \[64, 1, 7, 7\], the network needs \[6, 1, 5, 5\]"):
        quick(tmp_path / "l", init=tmp_path / "r" / "model.safetensors")
    assert not (tmp_path / "l").exists()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": -1}, InputError, "epochs cannot be -1; give a whole number, 0 or more"),
        ({"lr": float("nan")}, InputError, "lr cannot be nan; give a number above 0"),
        ({"batch_size": 0}, InputError, "batch_size cannot be 0; give a whole number, 1 or more"),
        ({"epochs": 1.5}, InputError, "epochs cannot be 1.5"),
        ({"seed": -1}, InputError, "the seed -1"),
        ({"seed": 0.5}, InputError, "the seed 0.5"),
        ({"limit": 0}, InputError, "limit cannot be 0; give a whole number, 1 or more"),
        ({"data": "nowhere"}, UnknownName, "unknown dataset 'nowhere'"),
        ({"precision": "int3"}, InputError, "unknown precision"),
        ({"device": "tpu"}, InputError, "unknown device"),
        ({"arguments": {"classes": 3}}, InputError, "classes=3 is too few"),
        ({"arguments": {"colour": 3}}, UnknownName, "unknown argument of lenet5 'colour'"),
        ({"arguments": {"in_channels": 4}}, InputError, "in_channels=4: images have 1 channel or 3"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_written(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        quick(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_batch_norm_needs_two_samples_and_says_so(tmp_path):
    with pytest.raises(DatasetError, match="batch of one"):
        train("resnet18", limit=1, epochs=1, out=tmp_path / "out", device="cpu")
    with pytest.raises(DatasetError, match="batch of one"):
        train("resnet18", limit=4, batch_size=1, epochs=1, out=tmp_path / "out", device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_exit_status_3(tmp_path):
    with pytest.raises(DeviceUnavailable) as caught:
        quick(tmp_path, device="cuda")
    assert caught.value.exit_status == 3


def test_every_sample_is_in_the_order_once_and_a_last_batch_of_one_is_left_out():
    order = Order(samples=130, batch_size=64, seed=0)
    batches = list(order)
    assert [len(b) for b in batches] == [64, 64, 2]
    assert sorted(sum(batches, [])) == list(range(130))
    assert [len(b) for b in Order(129, 64, 0)] == [64, 64]
    order.epoch = 1
    assert list(order) != batches


def test_schedules_start_and_end_where_they_should():
    recipe = architectures.get("lenet5").recipe
    from dataclasses import replace

    for name, first, last in (("constant", 1.0, 1.0), ("cosine", 1.0, 0.0), ("one-cycle", 0.04, 0.0)):
        factor = schedule(replace(recipe, schedule=name, epochs=10), 100)
        assert factor(0) == pytest.approx(first)
        assert factor(1000) == pytest.approx(last)
    assert max(schedule(replace(recipe, schedule="one-cycle", epochs=10), 100)(s) for s in range(1001)) == pytest.approx(1.0)


def test_augmentation_moves_the_image_and_fills_with_the_background():
    rules = ImageInput(channels=1, height=16, width=16, mean=(0.5,), std=(0.5,))
    fill = background(rules)
    assert fill.tolist() == [-1.0]
    blank = torch.full((4, 1, 16, 16), -1.0)
    torch.manual_seed(0)
    for kind in ("none", "shift", "affine", "crop-flip"):
        assert torch.allclose(augment(blank, kind, fill), blank, atol=1e-6)
    image = blank.clone()
    image[:, :, 4:9, 4:9] = 1.0
    moved = augment(image, "shift", fill)
    assert not torch.equal(moved, image)
    assert float(moved.min()) >= -1.0001
    assert float(moved.max()) <= 1.0001
    with pytest.raises(ValueError, match="unknown augmentation"):
        augment(image, "swirl", fill)


def test_read_weights_gives_what_the_run_made(tmp_path):
    quick(tmp_path, epochs=0)
    assert "conv1.weight" in read_weights(tmp_path / "model.safetensors")


def test_a_classifier_needs_classes_and_a_dataset_without_samples_trains_nothing(tmp_path):
    with pytest.raises(DatasetError) as caught:
        train("lenet5", data="friedman", out=tmp_path / "run", device="cpu")
    assert caught.value.problem == "lenet5 is a classifier, the dataset friedman has no classes"
    assert caught.value.hint == "choose another --data"
    assert not (tmp_path / "run").exists()
