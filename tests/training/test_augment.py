"""What augmentation does to images, on images of which it is known beforehand."""

from __future__ import annotations

import math

import pytest
import torch

from deploykit.training import augment as module
from deploykit.training.augment import augment

FILL = torch.tensor([0.25, -1.0, 2.0])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        yield


@pytest.mark.parametrize("kind", ["none", "shift", "affine", "crop-flip"])
def test_an_image_that_is_all_background_stays_as_it_is(kind):
    images = FILL.view(1, 3, 1, 1).expand(4, 3, 8, 6).contiguous()
    found = augment(images, kind, FILL)
    assert found.shape == images.shape
    torch.testing.assert_close(found, images)


def test_without_augmentation_the_images_are_given_back():
    images = torch.rand(2, 3, 4, 4)
    assert augment(images, "none", FILL) is images
    with pytest.raises(ValueError, match="unknown augmentation 'spin'"):
        augment(images, "spin", FILL)


@pytest.mark.parametrize("kind", ["shift", "affine", "crop-flip"])
def test_each_image_is_changed_by_itself_and_background_comes_in_per_channel(kind):
    images = torch.full((16, 3, 16, 16), 9.0)
    found = augment(images, kind, FILL)
    assert not torch.equal(found[0], found[1])
    edges = found.amin(dim=(0, 2, 3))
    assert (edges >= FILL - 1e-5).all()
    assert (edges < 8).all()
    assert found.amax() <= 9.0 + 1e-5
    # An eighth of the side moves out at most, and here nothing is turned by more than ten degrees: the middle stays.
    torch.testing.assert_close(found[:, :, 7:9, 7:9], images[:, :, 7:9, 7:9])


def test_the_drawn_numbers_lie_within_their_bounds():
    drawn = module._uniform(2000, 0.5)
    assert drawn.shape == (2000,)
    assert -0.5 <= drawn.min() < -0.45
    assert 0.45 < drawn.max() <= 0.5
    assert abs(float(drawn.mean())) < 0.05


@pytest.mark.parametrize(
    ("turn", "scale", "mirror", "shift", "matrix"),
    [
        (0.0, 1.0, 1.0, (0.0, 0.0), [[1, 0, 0], [0, 1, 0]]),
        (0.0, 1.0, 1.0, (0.25, -0.5), [[1, 0, 0.25], [0, 1, -0.5]]),
        (0.0, 2.0, 1.0, (0.0, 0.0), [[2, 0, 0], [0, 2, 0]]),
        (0.0, 1.0, -1.0, (0.0, 0.0), [[-1, 0, 0], [0, 1, 0]]),
        (math.pi / 2, 1.0, 1.0, (0.0, 0.0), [[0, -1, 0], [1, 0, 0]]),
        (math.pi / 2, 1.0, -1.0, (0.0, 0.0), [[0, -1, 0], [-1, 0, 0]]),
    ],
)
def test_matrices(turn, scale, mirror, shift, matrix):
    found = module._affine(torch.tensor([turn]), torch.tensor([scale]), torch.tensor([mirror]), torch.tensor([shift]))
    torch.testing.assert_close(found, torch.tensor([matrix], dtype=torch.float32), atol=1e-6, rtol=0)


def test_about_half_are_mirrored_and_only_by_crop_flip():
    ramp = torch.linspace(0, 1, 16).expand(200, 1, 16, 16)
    for kind, few, many in (("crop-flip", 70, 130), ("shift", 0, 0), ("affine", 0, 0)):
        found = augment(ramp, kind, torch.zeros(1))
        mirrored = int((found[:, 0, 8, 5] > found[:, 0, 8, 10]).sum())
        assert few <= mirrored <= many, kind
