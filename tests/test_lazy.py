"""A public name whose module needs a package of an extra: one line that names the extra, where Python is asked as on the command line."""

from __future__ import annotations

import pytest

from deploykit import lazy
from deploykit.errors import DependencyMissing


def loading(monkeypatch, missing):
    def import_module(name):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("importlib.import_module", import_module)
    return lazy.attach("anything", {"stage": ["train"]})[0]


@pytest.mark.parametrize(
    ("missing", "extra"), [("torch", "export"), ("onnx.checker", "export"), ("uvicorn", "serve"), ("onnxruntime", "cpu")]
)
def test_a_missing_package_names_its_extra(monkeypatch, missing, extra):
    with pytest.raises(DependencyMissing, match=rf"{missing.partition('.')[0]}'.*deploykit\[{extra}\]") as caught:
        loading(monkeypatch, missing)("train")
    assert isinstance(caught.value, ImportError)


def test_a_module_that_no_extra_brings_stays_what_it_is(monkeypatch):
    with pytest.raises(ModuleNotFoundError, match="deploykit.stage"):
        loading(monkeypatch, "deploykit.stage")("train")


def test_two_files_cannot_be_timed_without_the_extra_and_it_is_named(monkeypatch):
    from deploykit.profiler import compare_latency, subjects

    def without(*_):
        raise ModuleNotFoundError("No module named 'onnx'", name="onnx")

    monkeypatch.setattr(subjects, "random_arrays", without)
    with pytest.raises(DependencyMissing, match=r"'onnx'.*deploykit\[export\]"):
        compare_latency("a.onnx", "b.onnx")
