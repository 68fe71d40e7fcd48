"""Small rules of the runtime: values of images, markers of a JPEG, what is refused first, what a progress is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import DIGITS, LABELS, linear, with_contract

from deploykit.errors import DeviceUnavailable, ImageError, InputError
from deploykit.runtime import Predictor, images, predict, preprocessing
from deploykit.runtime.contract import ArrayInput, Contract, Output
from deploykit.runtime.diagnosis import Diagnosis, Provider, require


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_an_image_of_floats_has_finite_ones(odd: float) -> None:
    image = Image.fromarray(np.array([[0.0, 1.0], [0.5, odd]], np.float32))
    with pytest.raises(ImageError, match="the image has values that are not finite"):
        preprocessing.flatten(image, 1, 0)


def test_floats_and_sixteen_bits_become_eight() -> None:
    floats = Image.fromarray(np.array([[-1.0, 0.0, 0.5, 1.0, 2.0]], np.float32))
    assert np.asarray(preprocessing.flatten(floats, 1, 0)).tolist() == [[0, 0, 128, 255, 255]]
    numbers = Image.fromarray(np.array([[0, 128, 129, 257, 65_535, 70_000, -5]], np.int32))
    assert np.asarray(preprocessing.flatten(numbers, 1, 0)).tolist() == [[0, 0, 1, 1, 255, 255, 0]]


@pytest.mark.parametrize(
    ("shape", "mode", "size"),
    [
        ((4, 5), "L", (5, 4)),
        ((4, 5, 1), "L", (5, 4)),
        ((4, 5, 3), "RGB", (5, 4)),
        ((4, 5, 4), "RGBA", (5, 4)),
        ((4, 1), "L", (1, 4)),
    ],
)
def test_arrays_as_images(shape: tuple[int, ...], mode: str, size: tuple[int, int]) -> None:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    found = images.open_image(pixels)
    assert (found.mode, found.size) == (mode, size)
    assert np.array_equal(np.asarray(found).reshape(shape), pixels)
    for bad in (pixels.astype(np.int16), pixels[..., None, None], np.zeros((4, 5, 2), np.uint8)):
        with pytest.raises(ImageError, match=r"an image cannot be an? \w+ array of shape"):
            images.open_image(bad)


def test_a_truncated_file_says_first_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (64, 64), (1, 2, 3)).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError) as caught:
        images.open_image(path)
    assert str(caught.value).startswith(str(path))
    assert caught.value.problem.startswith(str(path))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "bmp", "ppm", "webp"])
def test_every_format_that_is_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "image"
    Image.new("RGB", (6, 5), (200, 100, 0)).save(path, format=kind)
    assert images.open_image(path).size == (6, 5)


def test_who_is_told_that_cuda_does_not_work() -> None:
    found = Diagnosis({}, (Provider("CUDAExecutionProvider", False, "no driver"),), (), 1, 1, ())
    with pytest.raises(DeviceUnavailable) as caught:
        require(found, "cuda")
    assert (caught.value.device, caught.value.reason) == ("cuda", "no driver")
    require(found, "cpu")
    require(Diagnosis({}, (Provider("CUDAExecutionProvider", True),), (), 1, 1, ()), "cuda")


class Told:
    """A progress that writes down what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[object, ...]] = []

    def start(self, task: str, total: int | None = None) -> None:
        self.lines.append(("start", task, total))

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.lines.append(("advance", steps, note))

    def say(self, line: str) -> None:
        self.lines.append(("say", line))


def test_a_progress_is_told_how_many_files_there_are(tmp_path: Path) -> None:
    for name in "ab":
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    file = tmp_path / "m.onnx"
    file.write_bytes(with_contract(linear(), Contract(DIGITS, Output("softmax", LABELS))).SerializeToString())
    told = Told()
    assert len(predict(file, tmp_path, progress=told, device="cpu")) == 2
    assert told.lines == [("start", "loading", None), ("start", "predicting", 2), *[("advance", 1, "")] * 2]
    with Predictor(file, device="cpu") as model:
        again = Told()
        predict(model, tmp_path, progress=again)
    assert again.lines == told.lines[1:]
    with pytest.raises(InputError, match="no paths were given"):
        predict(file, [], device="cpu")


def test_a_file_of_one_input_without_rows_is_warm_after_a_run_of_zeros(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(with_contract(linear(), Contract(ArrayInput((1, 8, 8)), Output())).SerializeToString())
    with Predictor(file, device="cpu", warm_up=2) as model:
        assert {name: array.shape for name, array in model._zeros(2).items()} == {"input": (2, 1, 8, 8)}


def test_a_jpeg_may_have_so_many_segments() -> None:
    comment = b"\xff\xfe\x00\x02"
    images._check_scans(b"\xff\xd8" + comment * 65_536, "x.jpg")
    with pytest.raises(ImageError, match="x.jpg has more than 65,536 segments"):
        images._check_scans(b"\xff\xd8" + comment * 65_537, "x.jpg")
