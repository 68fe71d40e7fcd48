"""Arguments as people give them: what is unambiguous is understood, all else is one line that says what to give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from deploykit import arguments
from deploykit.errors import InputError
from deploykit.progress import SILENT


class Named:
    """A path of somebody else's, as `os.PathLike` wants it."""

    def __fspath__(self):
        return "a/b.onnx"


@pytest.mark.parametrize("given", ["a/b.onnx", Path("a/b.onnx"), Named()])
def test_a_path_is_a_text_or_a_path(given):
    assert arguments.path(given, "out") == Path("a/b.onnx")


@pytest.mark.parametrize("given", [3, True, b"a.onnx", "", "a\0b", ["a.onnx"], object(), Path])
def test_anything_else_is_no_path(given):
    with pytest.raises(InputError, match=r"^out cannot be .*; give "):
        arguments.path(given, "out")


@pytest.mark.parametrize(
    ("given", "shapes"),
    [
        (None, None),
        ((3, 64, 64), ((3, 64, 64),)),
        ([3, 64, 64], ((3, 64, 64),)),
        (np.array([3, 64]), ((3, 64),)),
        ((np.int64(3), 5), ((3, 5),)),
        ("3x64x64", ((3, 64, 64),)),
        ("3X64", ((3, 64),)),
        ("", ((),)),
        (["3x64x64", (5,)], ((3, 64, 64), (5,))),
        ([(3, 4), ()], ((3, 4), ())),
        (["7"], ((7,),)),
        ([np.array([3, 4])], ((3, 4),)),
        (((3, 4) for _ in range(2)), ((3, 4), (3, 4))),
    ],
)
def test_shapes(given, shapes):
    assert arguments.shapes(given) == shapes


@pytest.mark.parametrize(
    "given",
    [
        7,
        True,
        (3, -1),
        (3, 0),
        (3, 1.5),
        "3x",
        "x",
        "3 x 4",
        "3x²",
        ["3", 4],
        [(3, True)],
        b"3x4",
        {"a": (3,)},
        (1 << 40,),
        [[[3]]],
    ],
)
def test_no_shapes(given):
    with pytest.raises(InputError, match=r"^input_shapes cannot be .*; give one shape per input without the batch"):
        arguments.shapes(given)


@pytest.mark.parametrize("given", [4, np.int32(4), np.uint8(4), np.array(4)])
def test_whole_numbers(given):
    found = arguments.whole(given, "batch", 1, 10)
    assert found == 4
    assert type(found) is int
    assert arguments.whole(None, "batch") is None


@pytest.mark.parametrize("given", [0, 11, -4, True, np.True_, 4.0, "4", [4], np.array([4, 5]), float("nan")])
def test_no_whole_numbers(given):
    with pytest.raises(InputError, match=r"^batch cannot be .*; give a whole number from 1 to 10$"):
        arguments.whole(given, "batch", 1, 10)


def test_real_numbers():
    assert [arguments.real(given, "lr") for given in (0, 1, 0.5, np.float32(0.5), None)] == [0, 1, 0.5, 0.5, None]
    for given in (-1, True, "1", float("nan"), float("inf"), [1], 10**400):
        with pytest.raises(InputError, match=r"^lr cannot be .*; give a number from 0$"):
            arguments.real(given, "lr")
    with pytest.raises(InputError, match=r"^lr cannot be 0; give a number above 0$"):
        arguments.real(0, "lr", above=True)


def test_truth_values():
    assert arguments.flag(True, "latency") is True
    assert arguments.flag(np.False_, "latency") is False
    for given in (1, 0, "yes", None, []):
        with pytest.raises(InputError, match=r"^latency cannot be .*; give True or False$"):
            arguments.flag(given, "latency")


def test_texts():
    assert arguments.texts("batch, height", "dynamic", "x") == ("batch", "height")
    assert arguments.texts(["batch", "a=1"], "dynamic", "x") == ("batch", "a=1")
    assert arguments.texts("", "dynamic", "x") == ()
    assert arguments.texts((), "dynamic", "x") == ()
    for given in (None, 3, True, b"batch", [1], {"batch": 0}):
        with pytest.raises(InputError, match=r"^dynamic cannot be .*; give a list of texts, such as x$"):
            arguments.texts(given, "dynamic", "x")


def test_several_whole_numbers():
    assert arguments.wholes([1, np.int64(2)], "batches", 1, 9, "[1]") == (1, 2)
    assert arguments.wholes(3, "batches", 1, 9, "[1]") == (3,)
    for given in ([], [0], "1,2", [True], None, [None]):
        with pytest.raises(InputError, match=r"^batches cannot be "):
            arguments.wholes(given, "batches", 1, 9, "[1]")


def test_keywords():
    assert arguments.keywords({"width": 3}, "arguments") == {"width": 3}
    for given in ("width=3", [("width", 3)], {3: "width"}, True):
        with pytest.raises(InputError, match=r"^arguments cannot be .*; give a dict by name, such as arguments="):
            arguments.keywords(given, "arguments")


def test_progress_is_an_object_that_listens():
    assert arguments.progress(None) is arguments.progress(False) is SILENT
    assert arguments.progress(SILENT) is SILENT
    for given in (True, print, "yes", type(SILENT)):
        with pytest.raises(InputError, match=r"^progress cannot be .*; give an object with the methods start, advance and say"):
            arguments.progress(given)


def test_what_cannot_show_itself_is_named_by_its_type():
    class Rude:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(InputError, match="^out cannot be a Rude; give a path"):
        arguments.path(Rude(), "out")
