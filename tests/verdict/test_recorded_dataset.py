"""A network that was trained on a user's own folder can be exported with that folder, and where it is not."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from deploykit.errors import DatasetError
from deploykit.exporter import export
from deploykit.network import target as targets
from deploykit.training import train
from deploykit.verdict.inputs import labelled_split


@pytest.fixture
def trained_on_a_folder(workdir):
    """Photographs of different sizes in folders of classes, and a network that was trained on them by a relative path."""
    generator = np.random.Generator(np.random.PCG64(0))
    for label, name in enumerate(("cats", "dogs")):
        folder = workdir / "pets" / name
        folder.mkdir(parents=True)
        for index in range(10):
            height, width = generator.integers(20, 90, 2)
            pixels = generator.integers(0, 128, (height, width, 3), np.uint8) + np.uint8(127 * label)
            Image.fromarray(pixels).save(folder / f"{index}.jpg")
    train("lenet5", data="pets", epochs=1, device="cpu")
    return workdir


def test_the_folder_is_found_again_and_decisions_are_compared(trained_on_a_folder):
    split, classes = labelled_split(targets.resolve("lenet5"))
    assert classes
    assert len(split) == 2
    result = export("lenet5")
    assert result.verdict.same, result.verdict
    assert result.verdict.decisions.samples == 2
    assert result.contract.provenance["dataset"] == "folder pets", "its name, and no path"
    assert result.contract.output.labels == ("cats", "dogs")


def test_without_the_folder_the_export_says_what_it_could_not_compare(trained_on_a_folder):
    (trained_on_a_folder / "pets").rename(trained_on_a_folder / "elsewhere")
    result = export("lenet5")
    assert result.verdict.same, result.verdict
    assert result.verdict.decisions is None
    assert any("the dataset it was trained on (folder pets) is not here" in note for note in result.verdict.notes)
    split, _ = labelled_split(targets.resolve("lenet5"), "elsewhere")
    assert len(split) == 2
    with pytest.raises(DatasetError):
        labelled_split(targets.resolve("lenet5"), "folder")
    card = (trained_on_a_folder / "trained" / "lenet5" / "card.md").read_text()
    assert "Trained on `folder pets` (16 samples) for 1 epoch," in card


def test_a_folder_of_other_classes_at_the_same_place_is_not_taken_for_the_dataset(trained_on_a_folder):
    (trained_on_a_folder / "pets" / "dogs").rename(trained_on_a_folder / "pets" / "wolves")
    assert labelled_split(targets.resolve("lenet5")) is None
