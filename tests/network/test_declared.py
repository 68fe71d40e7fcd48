"""What users declare of images in short: names of channels, and a number alone for every channel."""

from __future__ import annotations

import pytest

from deploykit.errors import InputError
from deploykit.network import declared


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ({"channels": "rgb"}, {"channels": 3, "order": "rgb"}),
        ({"channels": "bgr"}, {"channels": 3, "order": "bgr"}),
        ({"channels": "grey"}, {"channels": 1, "order": "rgb"}),
        ({"channels": "gray"}, {"channels": 1, "order": "rgb"}),
        ({"channels": "rgb", "order": "bgr"}, {"channels": 3, "order": "bgr"}),
        ({"channels": 3}, {"channels": 3}),
        ({"mean": 0.5, "std": [0.1, 0.2], "padding": 0}, {"mean": (0.5,), "std": (0.1, 0.2), "padding": (0,)}),
        ({"mean": None, "fit": "stretch"}, {"mean": None, "fit": "stretch"}),
        ({"mean": "x"}, {"mean": "x"}),
    ],
)
def test_fields_in_short(given, fields):
    before = dict(given)
    assert declared._plain(given) == fields
    assert given == before


def test_other_channels_are_said():
    with pytest.raises(InputError, match="unknown channels 'hsv'; choose one of rgb, bgr, grey, gray"):
        declared._plain({"channels": "hsv"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((3, None, None), "image cannot be an int; give an ImageInput, or a dict of its fields"),
        ((None, 3, None), "output cannot be an int; give an Output, or a dict such as"),
        ((None, None, 3), "meanings cannot be an int; give a dict of texts by the names of outputs"),
    ],
)
def test_what_cannot_be_meant(given, said):
    with pytest.raises(InputError, match=said):
        declared.Declared.of(*given)
    assert declared.Declared() == declared.Declared(None, None, {})
    assert declared.MAX_LABEL_BYTES == 4 * 1024**2
