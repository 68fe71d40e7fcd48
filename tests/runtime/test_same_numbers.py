"""The runtime's answers are the training pipeline's, for every test image and however it is stored."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit import datasets
from deploykit.runtime import Predictor
from deploykit.runtime.contract import ImageInput

ROTATED = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


def stored(image: Image.Image, how: str) -> bytes:
    """The grey image in a file that must look the same."""
    options: dict[str, object] = {}
    kind = "PNG"
    if how == "rgb":
        image = image.convert("RGB")
    elif how == "rgba":
        image = image.convert("RGBA")
    elif how == "transparent":
        image = image.convert("RGB").convert("RGBA")
        pixels = np.asarray(image).copy()
        pixels[..., 3] = pixels[..., 0]  # white where opaque: on black that is the grey image again
        pixels[..., :3] = 255
        image = Image.fromarray(pixels)
    elif how == "palette":
        image = image.convert("P")
    elif how == "16-bit":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    elif how.startswith("exif"):
        orientation = int(how.removeprefix("exif"))
        image = image.transpose(ROTATED[orientation])
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    elif how != "grey":
        kind = how
        options = {"lossless": True} if how == "WEBP" else {}
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@pytest.fixture(scope="module")
def pipeline(trained: Path, exported: Path) -> tuple[Predictor, list[Image.Image], np.ndarray]:
    """The deployed file, the test images, and PyTorch's probabilities on the training pipeline's own arrays."""
    import torch

    from deploykit.network.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(trained / "model.safetensors")
    split = datasets.load("digits").test
    assert isinstance(checkpoint.input, ImageInput)
    with torch.inference_mode():
        logits = checkpoint.build()(torch.from_numpy(split.arrays(checkpoint.input)))
    return Predictor(exported, device="cpu"), list(split.images()), torch.softmax(logits.double(), 1).numpy()


@pytest.mark.parametrize(
    "how",
    ["grey", "rgb", "rgba", "transparent", "palette", "16-bit", "exif3", "exif6", "exif8", "TIFF", "BMP", "WEBP", "GIF", "PPM"],
)
def test_every_test_digit(pipeline: tuple[Predictor, list[Image.Image], np.ndarray], how: str) -> None:
    model, images, want = pipeline
    answers = list(model.predict_many((stored(image, how) for image in images), top=10))
    assert [a.index for a in answers] == want.argmax(axis=1).tolist()
    got = np.array([[c.score for c in sorted(a.top, key=lambda c: c.index)] for a in answers])
    assert np.abs(got - want).max() < 1e-5
    one = [model.predict(stored(image, how), top=10) for image in images[:20]]
    alone = np.array([[c.score for c in sorted(a.top, key=lambda c: c.index)] for a in one])
    assert np.abs(alone - want[:20]).max() < 1e-5
