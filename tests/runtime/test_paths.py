"""What several inputs are: paths, folders and patterns mean what they say, one input is not many."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from deploykit.errors import ImageError, InputError
from deploykit.runtime import Predictor


@pytest.fixture(scope="module")
def model(exported):
    with Predictor(exported) as found:
        yield found


@pytest.fixture
def folder(tmp_path):
    for name in ("b", "a"):
        Image.new("L", (28, 28), 200).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def test_one_path_a_folder_and_a_pattern(model, folder):
    names = [str(folder / "a.png"), str(folder / "b.png")]
    for sources in (folder, str(folder), str(folder / "*.png"), names, iter(names), (folder / "a.png", names[1])):
        answers = list(model.predict_many(sources))
        assert [answer.path for answer in answers] == names
        assert all(answer.ok for answer in answers)
    assert [answer.path for answer in model.predict_many(names[0])] == names[:1]
    (missing,) = model.predict_many("one.jpg")
    assert (missing.path, missing.ok) == ("one.jpg", False)
    listed = list(model.predict_many([folder, np.zeros((28, 28), np.uint8), names[0]]))
    assert [answer.ok for answer in listed] == [False, True, True], "one answer per entry of a list"
    assert "is a folder; give a file; a folder that has some can be given alone" in listed[0].error


def test_an_array_with_a_batch_is_many(model):
    assert len(list(model.predict_many(np.zeros((3, 28, 28), np.uint8)))) == 3
    assert len(list(model.predict_many(np.zeros((2, 28, 28, 3), np.uint8)))) == 2


@pytest.mark.parametrize(
    "one",
    [b"bytes", bytearray(3), np.zeros((28, 28), np.uint8), np.zeros((28, 28, 3), np.uint8), Image.new("L", (3, 3)), io.BytesIO(b"x"), {"a": 1}, 3, None],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_one_input_is_not_many(model, one):
    with pytest.raises(
        InputError, match=r"not several inputs; give a list: predict_many\(\[...\]\), or ask about one with predict"
    ):
        model.predict_many(one)


def test_an_open_file_is_an_image(model, folder):
    expected = model.predict(folder / "a.png")
    with (folder / "a.png").open("rb") as stream:
        answer = model.predict(stream)
        assert (answer.label, answer.score, answer.path) == (expected.label, expected.score, None)
        with pytest.raises(ImageError, match="the open image has no bytes left"):
            model.predict(stream)
    with (
        (folder / "notes.txt").open() as text,
        pytest.raises(ImageError, match=r"gives str, not bytes; open the file with open\(path, .rb.\)"),
    ):
        model.predict(text)

    class Upload:
        async def read(self, limit):
            return b""

    with pytest.raises(ImageError, match=r"read asynchronously; give its bytes: await file.read\(\)"):
        model.predict(Upload())

    class Broken:
        def read(self, limit):
            raise ValueError("closed")

    with pytest.raises(ImageError, match=r"cannot be read \(ValueError: closed\)"):
        model.predict(Broken())


@pytest.mark.parametrize(
    ("array", "advice"),
    [
        (np.zeros((3, 28, 28), np.uint8), "give array.transpose(1, 2, 0)"),
        (np.zeros((28, 28, 3), np.float32), "give (array * 255).round().astype('uint8') if its values are from 0 to 1"),
        (np.zeros((3, 28, 28), np.float32), "give (array.transpose(1, 2, 0) * 255).round().astype('uint8') if its"),
        (np.zeros((28, 28), np.int64), "give array.astype('uint8')"),
        (np.zeros((2, 28, 28, 3), np.uint8), "ask about several with predict_many(array)"),
        (np.zeros((2, 3, 28, 28), np.uint8), "ask about several with predict_many(array.transpose(0, 2, 3, 1))"),
        (np.zeros((5, 5, 5, 5, 5), np.uint8), "give uint8 (height, width) or (height, width, 1, 3 or 4)"),
        (torch.zeros(3, 28, 28), "give (tensor.cpu().numpy().transpose(1, 2, 0) * 255).round()"),
        (torch.zeros(28, 28, dtype=torch.uint8), "give tensor.cpu().numpy()"),
    ],
)
def test_the_advice_is_what_to_type(model, array, advice):
    with pytest.raises(ImageError) as caught:
        model.predict(array)
    assert caught.value.hint.startswith(advice)


def test_the_labels_of_a_file(model):
    assert model.labels == tuple("0123456789")


def test_numpys_numbers_are_numbers_and_nothing_else_is(exported, folder):
    with Predictor(exported, threads=np.int64(1), warm_up=np.int32(1), max_pixels=np.int64(10_000), spinning=np.True_) as model:
        answers = list(model.predict_many(folder, batch_size=np.int64(2), top=np.int64(3)))
        assert [len(answer.top) for answer in answers] == [3, 3]
        for name, value in (("top", True), ("batch_size", "2"), ("batch_size", 0)):
            with pytest.raises(InputError, match=f"^{name} cannot be "):
                model.predict_many(folder, **{name: value})
        with pytest.raises(InputError, match="^batch cannot be 'x'"):
            model.warm_up(1, batch="x")
    for name, value in (("threads", 0), ("warm_up", "x"), ("max_pixels", -1), ("spinning", 1), ("tf32", "no"), ("check_finite", None),
                        ("io_binding", 1), ("cuda_graph", 0)):  # fmt: skip
        with pytest.raises(InputError, match=f"^{name} cannot be "):
            Predictor(exported, **{name: value})
