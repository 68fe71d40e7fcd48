"""Errors are part of the interface: one line, a hint, an exit status."""

from __future__ import annotations

import inspect
import pickle

import pytest

from deploykit import errors
from deploykit.errors import DependencyMissing, DeploykitError, InputError, UnknownName

ALL = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, DeploykitError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda c: c.__name__)
def test_the_tree_in_the_docstring_lists_every_exception_with_its_exit_status(kind):
    line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in f"{line} ")
    assert f" {kind.exit_status}" in line


def test_a_message_is_one_line_even_if_its_cause_was_not():
    error = InputError("cannot read\n  it:\tbroken", "try\nagain")
    assert str(error) == "cannot read it: broken; try again"


def test_exceptions_cross_process_borders():
    error = pickle.loads(pickle.dumps(UnknownName("unknown x", "did you mean y?")))
    assert type(error) is UnknownName
    assert (error.problem, error.hint) == ("unknown x", "did you mean y?")


def test_unknown_names_come_with_the_nearest_ones():
    assert "did you mean 'resnet18'" in str(UnknownName.among("network", "resnet81", ["lenet5", "resnet18", "vgg11"]))
    assert "known: a, b" in str(UnknownName.among("network", "zzzz", ["b", "a"]))
    assert len(str(UnknownName.among("network", "x" * 10_000, ["a"]))) < 200


def test_a_missing_package_names_the_extra():
    assert "pip install 'deploykit[export]'" in str(DependencyMissing.of("onnxsim", "export"))


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "layer", "1 layer"),
        (0, "layer", "0 layers"),
        (1024, "batch", "1,024 batches"),
        (1, "batch", "1 batch"),
        (25, "epoch", "25 epochs"),
    ],
)
def test_one_thing_is_no_plural(count, noun, text):
    assert errors.counted(count, noun) == text


def test_what_is_shown_to_be_typed_is_one_word():
    assert errors.word("trained/lenet5/model.onnx") == "trained/lenet5/model.onnx"
    assert errors.word("my files/it's.onnx") == """'my files/it'"'"'s.onnx'"""


def test_what_was_given_is_named_with_its_article():
    assert [errors.kind_of(value) for value in ([], 3, {}, object())] == ["a list", "an int", "a dict", "an object"]
    assert [errors.with_article(noun) for noun in ("int64", "uint8", "sequence")] == ["an int64", "a uint8", "a sequence"]
