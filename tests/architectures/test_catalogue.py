"""What is read from the files of the architectures, without PyTorch, is what they register."""

from __future__ import annotations

import subprocess
import sys

import pytest

from deploykit import architectures
from deploykit.architectures import ImageInput, Recipe, _catalogue, register
from deploykit.architectures._registry import REGISTRY
from deploykit.profiler.listing import count


@pytest.mark.parametrize("name", architectures.names())
def test_the_source_says_what_the_registry_knows_and_the_figures_are_the_counted_ones(name):
    read, known = _catalogue.read().entries[name], architectures.get(name)
    assert read == known.entry
    totals = count(known)
    assert (read.params, read.macs) == (totals.params, totals.ops)


def test_no_file_has_to_be_imported_for_the_list():
    assert _catalogue.read().unread == ()
    for name in architectures.names():
        architectures.get(name)
    assert set(_catalogue.read().entries) == {name for name, known in REGISTRY.items() if "deploykit." in known.build.__module__}


@pytest.mark.parametrize(
    "source",
    [
        "@register('toy', input=INPUT, recipe=made())\ndef toy(): ...",
        "@register('toy', input=INPUT, colour=3)\ndef toy(): ...",
        "A = B\nB = A\n@register('toy', input=A)\ndef toy(): ...",
        "for n in (1, 2): register(f'toy{n}', input=INPUT)(make)",
        "from deploykit.architectures.lenet5 import LeNet5\n@register('toy', input=LeNet5)\ndef toy(): ...",
        "def (",
    ],
)
def test_what_is_not_plain_is_imported(monkeypatch, tmp_path, source):
    (tmp_path / "toy.py").write_text(source)
    monkeypatch.setattr(_catalogue, "__file__", str(tmp_path / "_catalogue.py"))
    monkeypatch.setattr(_catalogue.plugins, "names", lambda package: ("toy",))
    assert _catalogue.read.__wrapped__() == _catalogue.Catalogue({}, ("deploykit.architectures.toy",))


def test_a_name_that_a_program_registers_itself_is_known_and_one_that_is_taken_is_refused(monkeypatch):
    def tiny():
        """A network of this test."""

    monkeypatch.setattr("deploykit.architectures._registry.REGISTRY", dict(REGISTRY))
    register("tiny", input=ImageInput(channels=1, height=4, width=4), recipe=Recipe(epochs=1))(tiny)
    assert "tiny" in architectures.names()
    assert architectures.entry("tiny").summary == "A network of this test."
    assert architectures.get("tiny").build is tiny
    for name in ("tiny", "lenet5"):
        with pytest.raises(ValueError, match="registered twice"):
            register(name, input=ImageInput(channels=1, height=4, width=4))(tiny)


@pytest.mark.parametrize("kind", ["architectures", "datasets", "backends", "formats"])
def test_lists_load_neither_pytorch_nor_an_engine(kind, tmp_path):
    script = (
        "import contextlib, sys, deploykit.cli as c\n"
        f"with contextlib.suppress(SystemExit): c.cli(['list', '{kind}', '--format', 'json'])\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'onnx', 'onnxruntime', 'sklearn', 'PIL', 'scipy', 'safetensors'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert '"summary"' in done.stdout
