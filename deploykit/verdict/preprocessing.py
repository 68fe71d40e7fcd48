"""Preprocessing inside the graph: raw images through the deployed file, beside the Python pipeline.

The network behind it is judged as any other file is; what is asked here is whether the graph makes the same input of an image
as `runtime.preprocessing` does, and whether both then decide alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from deploykit import onnx_file
from deploykit.datasets import Split
from deploykit.errors import ContractError, DeploykitError, ModelFileError
from deploykit.onnx_file import preprocessing as graph_preprocessing
from deploykit.onnx_file import sessions
from deploykit.onnx_file.preprocessing import Parts
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.preprocessing import flatten, preprocess
from deploykit.verdict import legal
from deploykit.verdict.comparison import distance
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.originals import Original
from deploykit.verdict.result import Check, Verdict
from deploykit.verdict.scales import finite_scale

NAME = "preprocessing"
MAX_SAMPLES = 200
MAX_PIXEL_DIFFERENCE = 1  # grey levels
# Height x width: down and up, portrait and landscape, one pixel wide, and sizes where Pillow takes the columns first.
SIZES = ((97, 211), (301, 90), (19, 13), (11, 27), (40, 1), (1, 33), (250, 120))
# Margin between the two best logits / largest absolute logit, up to which another top-1 is rounding.
MAX_UNDECIDED_MARGIN = 1e-4


@dataclass
class _Found:
    """What was seen so far. `levels`: largest difference of a pixel; `off`: how far from whole grey levels, in levels."""

    images: int = 0
    levels: float = 0.0
    off: float = 0.0
    identical: int = 0
    pixels: int = 0
    flips: int = 0
    logits: float = 0.0
    worst: str = ""


def taken_apart(deployed: Deployed) -> tuple[Parts | None, Check] | None:
    """The network behind the preprocessing and a check that says so; `None` for a file that takes what the network takes."""
    model = deployed.model
    try:
        contract = onnx_file.get_contract(model)
    except ContractError:
        return None  # the check of the contract says why
    if contract is None or not contract.preprocessing_in_graph:
        return None
    broken = next((check for check in legal.checks(deployed) if not check.passed), None)
    if broken is not None:
        return None, broken
    try:
        parts = graph_preprocessing.split(model)
    except ModelFileError as error:
        return None, Check(NAME, False, error.problem)
    onnx_file.set_contract(parts.core, replace(contract, preprocessing_in_graph=False))
    return parts, Check(NAME, True, "")


def network_in(deployed: Deployed) -> Deployed:
    """What lies behind the preprocessing; the file itself where it has none, or where it is too broken to tell."""
    apart = taken_apart(deployed)
    return deployed if apart is None or apart[0] is None else Deployed(apart[0].core, deployed.folder)


def completed(judged: Verdict, deployed: Deployed, parts: Parts, original: Original, split: Split | None) -> Verdict:
    """The verdict on the network, and on the preprocessing in front of it."""
    check = compare_images(deployed, parts, original, split)
    if check.passed:
        return replace(judged, checks=(*judged.checks, check))
    word = "different" if judged.same else judged.verdict
    blamed, layer = (NAME, parts.boundary) if judged.same else (judged.blamed_step, judged.first_divergent_layer)
    return replace(judged, checks=(*judged.checks, check), verdict=word, blamed_step=blamed, first_divergent_layer=layer)


def compare_images(deployed: Deployed, parts: Parts, original: Original, split: Split | None) -> Check:
    """Images of many sizes through the file and through Python: pixels within one grey level, the same top-1."""
    rules = original.rules
    if not isinstance(rules, ImageInput):
        return Check(NAME, False, f"the file takes images, {original.name} takes arrays")
    found = _Found()
    try:
        session = deployed.session(also=[parts.boundary])
        for name, images in _images(rules, split):
            _look(found, name, images, session, original, rules)
    except (DeploykitError, ValueError) as error:  # numpy's complaint about shapes that do not fit
        return Check(NAME, False, f"the file cannot be compared with the Python pipeline: {str(error)[:200]}")
    if not found.off <= _slack(session, rules):
        return Check(NAME, False, f"mean, std or scale are not the contract's: pixels are {found.off:.2g} off a grey level")
    if not found.levels <= MAX_PIXEL_DIFFERENCE:
        return Check(NAME, False, f"pixels differ by up to {found.levels:.0f} grey levels ({found.worst})")
    if found.flips:
        return Check(NAME, False, f"{found.flips} of {found.images} raw images get another top-1 than in Python")
    share = found.identical / max(found.pixels, 1)
    return Check(
        NAME,
        True,
        f"{found.images} raw images, up and down, portrait and landscape: {share:.2%} of the pixels identical, "
        f"none off by more than {MAX_PIXEL_DIFFERENCE} grey level, same top-1, logits within {found.logits:.1e}",
    )


def _look(
    found: _Found,
    name: str,
    images: list[Image.Image],
    session: onnxruntime.InferenceSession,
    original: Original,
    rules: ImageInput,
) -> None:
    """One batch of images of one size, repeated where the graph takes only batches of another size."""
    fixed = session.get_inputs()[0].shape[0]
    if isinstance(fixed, int):
        images = (images * fixed)[:fixed]
    raw = np.stack([_raw(image, rules) for image in images])
    expected = np.stack([preprocess(image, rules) for image in images])
    first, boundary = session.get_outputs()[0].name, session.get_outputs()[-1].name
    logits, inputs = sessions.run(session, {session.get_inputs()[0].name: raw}, [first, boundary])
    theirs, ours = _levels(inputs, rules), _levels(expected, rules)
    if theirs.shape != ours.shape:
        raise ValueError(f"the graph makes {theirs.shape} of {name}, Python {ours.shape}")
    apart = np.abs(np.round(theirs) - np.round(ours))
    off = np.abs(theirs - np.round(theirs))
    found.images += len(images)
    found.pixels += apart.size
    found.identical += int(np.count_nonzero(apart == 0))
    # Values that are not finite are infinitely far apart.
    found.off = max(found.off, float(np.max(np.where(np.isfinite(off), off, np.inf))))
    largest = float(np.max(np.where(np.isfinite(apart), apart, np.inf)))
    if largest > found.levels:
        found.levels, found.worst = largest, name
    answer = original.logits(expected)
    if answer.shape == logits.shape:
        python = answer.astype(np.float64)
        found.logits = max(found.logits, float(np.max(distance(python, logits))))
        found.flips += _flips(python, logits, original)


def _flips(python: NDArray[Any], deployed: NDArray[Any], original: Original) -> int:
    if python.ndim != 2 or python.shape[1] < 2 or original.output is None or original.output.activation == "none":
        return 0
    best = np.sort(python, axis=1)
    scale = np.array([finite_scale(row) for row in python])
    with np.errstate(invalid="ignore"):  # of two that are both -inf, none is the better
        decided = best[:, -1] - best[:, -2] > MAX_UNDECIDED_MARGIN * scale
    return int(np.count_nonzero(decided & (python.argmax(axis=1) != deployed.argmax(axis=1))))


def _levels(inputs: NDArray[Any], rules: ImageInput) -> NDArray[np.float64]:
    """The network's input (batch, channels, height, width) -> grey levels 0..255, as `normalize` had them before."""
    mean, std = (np.asarray(values, np.float64).reshape(1, -1, 1, 1) for values in (rules.mean, rules.std))
    return (inputs.astype(np.float64) * std + mean) / rules.scale


def _slack(session: onnxruntime.InferenceSession, rules: ImageInput) -> float:
    """How far rounding alone can move a pixel off its grey level, in levels: the input's own precision, four times."""
    half = session.get_outputs()[-1].type == "tensor(float16)"
    largest = 255 + 2 * max(abs(m) for m in rules.mean) / rules.scale
    return max(1e-3, 4 * float(np.finfo(np.float16 if half else np.float32).eps) * largest)


def _raw(image: Image.Image, rules: ImageInput) -> NDArray[np.uint8]:
    flat = np.asarray(flatten(image, rules.channels, rules.background), np.uint8)
    return flat.reshape(flat.shape[0], flat.shape[1], rules.channels)


def _images(rules: ImageInput, split: Split | None) -> Iterator[tuple[str, list[Image.Image]]]:
    """Two images of noise per size, also of twice and of half the contract's size, then the split's own, one by one."""
    generator = np.random.Generator(np.random.PCG64(0))
    side = rules.resize or max(rules.height, rules.width)
    sizes = (*SIZES, (rules.height, rules.width), (2 * side + 3, side), (max(1, side // 2), side))
    for height, width in dict.fromkeys(sizes):
        pixels = generator.integers(0, 256, (2, height, width, rules.channels), np.uint8)
        yield f"noise, {width}x{height}", [Image.fromarray(p[:, :, 0] if rules.channels == 1 else p) for p in pixels]
    for index, image in enumerate(split.take(MAX_SAMPLES).images() if split is not None else ()):
        yield f"sample {index}", [image]
