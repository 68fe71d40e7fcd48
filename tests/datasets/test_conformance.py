"""What every dataset that needs no files promises; a new file in deploykit/datasets is picked up by itself."""

from __future__ import annotations

import numpy as np
import pytest

from deploykit import architectures, datasets
from deploykit.datasets import Dataset, Split
from deploykit.errors import DatasetError, UnknownName

NEED_FILES = {"mnist", "fashion-mnist", "cifar10", "folder", "masks", "arrays"}
EMBEDDED = [name for name in datasets.names() if name not in NEED_FILES]


@pytest.fixture(scope="module")
def loaded():
    return {name: datasets.load(name) for name in EMBEDDED}


def parts(data):
    return {"train": data.train, "validation": data.validation, "test": data.test}


@pytest.mark.parametrize("name", EMBEDDED)
def test_three_splits_without_a_sample_in_common(name, loaded):
    data = loaded[name]
    assert data.name == name
    seen = [{np.asarray(sample).tobytes() for sample in part.samples} for part in parts(data).values()]
    assert all(seen)
    assert not seen[0] & seen[1]
    assert not seen[0] & seen[2]
    assert not seen[1] & seen[2]


@pytest.mark.parametrize("name", EMBEDDED)
def test_samples_and_targets_are_what_a_split_says(name, loaded):
    data = loaded[name]
    for part in parts(data).values():
        assert all(sample.dtype in (np.uint8, np.float32) for sample in part.samples)
        assert np.isfinite(part.targets).all()
        if data.classes is None:
            assert part.targets.dtype == np.float32
            assert part.targets.ndim >= 2
        else:
            assert part.targets.dtype == np.int64
            assert set(part.targets.tolist()) <= set(range(len(data.classes)))


@pytest.mark.parametrize("name", EMBEDDED)
def test_it_is_the_same_every_time(name, loaded):
    again = datasets.load(name)
    for one, other in zip(parts(loaded[name]).values(), parts(again).values(), strict=True):
        np.testing.assert_array_equal(one.targets, other.targets)
        np.testing.assert_array_equal(np.stack(one.samples), np.stack(other.samples))


@pytest.mark.parametrize("name", EMBEDDED)
def test_a_limit_shortens_training_alone(name, loaded):
    limited = datasets.load(name, limit=1)
    assert len(limited.train) == 1
    assert len(limited.test) == len(loaded[name].test)


@pytest.mark.parametrize("name", architectures.names())
def test_every_network_can_read_the_dataset_of_its_recipe(name, loaded):
    architecture = architectures.get(name)
    data = loaded[architecture.recipe.dataset]
    found = data.test.take(2).arrays(architecture.input)
    assert found.shape == (2, *architecture.input_shape)
    assert found.dtype == np.float32


def test_the_formulas_are_the_ones_that_are_written_down(loaded):
    for part in parts(loaded["friedman"]).values():
        a, b, c, d = np.stack(part.samples).astype(np.float64).T
        np.testing.assert_allclose(part.targets[:, 0], np.sin(np.pi * a * b) + 2 * (c - 0.5) ** 2 + d, atol=1e-6)
    waves = loaded["waveforms"].test
    strengths = np.stack(waves.samples).astype(np.float64)
    t = np.arange(128) / 128
    clean = sum(strengths[:, k - 1, None] * np.sin(2 * np.pi * k * t) for k in range(1, 9))
    assert np.std(waves.targets - clean) == pytest.approx(0.05, rel=0.02)
    assert float(np.abs(loaded["tanh-sum"].train.targets).max()) < 0.5
    fit, *_ = np.linalg.lstsq(
        np.stack(loaded["tanh-map"].train.samples), np.arctanh(loaded["tanh-map"].train.targets * 0.999999), rcond=None
    )
    predicted = np.tanh(np.stack(loaded["tanh-map"].test.samples) @ fit)
    np.testing.assert_allclose(predicted, loaded["tanh-map"].test.targets, atol=0.01)


def test_the_ink_of_a_digit_has_its_centre_where_the_target_says(loaded):
    part = loaded["digit-vectors"].test
    image = part.samples[0].reshape(8, 8).astype(np.float64)
    assert part.targets[0, 0] == pytest.approx((image.sum(axis=1) * np.arange(8)).sum() / image.sum(), abs=1e-5)


def test_the_edge_image_is_the_textbooks(loaded):
    part = loaded["edge-image"].train
    assert (np.asarray(part.samples[0]) // 255).tolist() == [[1, 1, 0, 0, 0, 0, 1, 1]] * 6
    assert part.targets.tolist() == [[[[0, 1, 0, 0, 0, -1, 0]] * 6]]


def test_an_unknown_dataset_names_the_nearest():
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        datasets.load("digit")


def test_a_limit_below_one():
    with pytest.raises(DatasetError, match="a limit of 0 samples"):
        datasets.load("digits", limit=0)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_range_are_named(label):
    good = Split([np.zeros((4, 4), np.uint8)], np.array([0]))
    bad = Split([np.zeros((4, 4), np.uint8)] * 2, np.array([2, label]))
    with pytest.raises(DatasetError, match=f"the validation split of x has the label {label}, but there are 3 classes"):
        Dataset("x", good, bad, good, ("a", "b", "c"))


def test_samples_of_another_kind_than_the_network_takes():
    vectors = datasets.load("blobs").test
    with pytest.raises(DatasetError, match="the network takes images, the dataset has float32 arrays"):
        vectors.array(0, architectures.get("lenet5").input)
    with pytest.raises(DatasetError, match=r"the network takes arrays of shape \(4,\), the dataset has \(20,\)"):
        vectors.array(0, architectures.get("rgnet").input)
    four = Split([np.zeros((8, 8, 4), np.uint8)], np.array([0]))
    with pytest.raises(DatasetError, match=r"arrays of shape \(8, 8, 4\)"):
        four.array(0, architectures.get("lenet5").input)


def test_every_cloud_of_the_blobs_is_drawn_from():
    targets = datasets.load("blobs").train.targets
    shares = np.bincount(targets, minlength=10) / len(targets)
    assert shares.min() > 0.08
    assert shares.max() < 0.12
