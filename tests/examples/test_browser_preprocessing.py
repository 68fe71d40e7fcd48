"""The preprocessing that a browser does without a file that does it: the same pixels as Python makes, for every fit and order."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.runtime.contract import ImageInput, SegmentationOutput, input_to_dict
from deploykit.runtime.geometry import placed
from deploykit.runtime.preprocessing import preprocess, to_pixels
from deploykit.runtime.task_answers import task_answers

SCRIPT = Path(__file__).parents[2] / "examples" / "browser" / "preprocessing.js"
SIZES = ((1, 1), (1, 33), (40, 1), (27, 20), (8, 9), (61, 41), (97, 211), (127, 91), (13, 500), (20, 27))
FITS = {
    "stretch": {},
    "center-crop": {"resize": 23},
    "letterbox": {"padding": (114,)},
    "letterbox at the top": {"padding": (7, 0, 255), "placement": "top-left"},
}
RULES = [
    ImageInput(3, 27, 21, interpolation, fit.split()[0], mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), order=order, **more)
    for (fit, more), order, interpolation in product(FITS.items(), ("rgb", "bgr"), ("nearest", "bilinear", "bicubic"))
] + [ImageInput(1, 27, 21, fit="letterbox", padding=(9,), mean=(0.5,), std=(0.5,))]


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode()


@pytest.fixture(scope="module")
def cases():
    """(image, rules, scores of pixels) and what node makes of it."""
    if shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    generator = np.random.default_rng(0)
    asked = []
    for rules, (height, width) in product(RULES, SIZES):
        image = generator.integers(0, 256, (height, width, 3), np.uint8)
        asked.append((image, rules, generator.normal(size=(3, 9, 7)).astype(np.float32)))
    documents = [
        {
            "width": image.shape[1],
            "height": image.shape[0],
            "data": base64_of(np.concatenate([image, np.full((*image.shape[:2], 1), 255, np.uint8)], axis=2)),
            "rules": input_to_dict(rules),
            "scores": {"shape": scores.shape, "values": scores.ravel().tolist()},
        }
        for image, rules, scores in asked
    ]
    driver = Path(__file__).with_name("preprocess.mjs")
    done = subprocess.run(["node", driver, SCRIPT], input=json.dumps(documents), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return list(zip(asked, json.loads(done.stdout), strict=True))


def test_the_pixels_and_the_input_are_pythons_to_the_bit(cases):
    for (image, rules, _), found in cases:
        case = f"{image.shape} {asdict(rules)}"
        expected = np.moveaxis(to_pixels(Image.fromarray(image), rules), 2, 0)
        pixels = np.frombuffer(base64.b64decode(found["pixels"]), np.uint8).reshape(expected.shape)
        assert np.array_equal(pixels, expected), case
        inputs = np.frombuffer(base64.b64decode(found["input"]), np.float32).reshape(expected.shape)
        assert np.array_equal(inputs, preprocess(Image.fromarray(image), rules)), case


def test_the_mask_is_pythons(cases):
    """Up to pixels on the border of two labels, where Python interpolates in 32 bits."""
    same = total = 0
    for (image, rules, scores), found in cases:
        height, width = image.shape[:2]
        (expected,) = task_answers([scores[None]], SegmentationOutput(), 1, [placed((width, height), rules)])
        mask = np.frombuffer(base64.b64decode(found["labels"]), np.uint8).reshape(height, width)
        assert np.array_equal(mask == 255, expected.mask == 255)
        same, total = same + int((mask == expected.mask).sum()), total + mask.size
    assert same / total > 0.9999
