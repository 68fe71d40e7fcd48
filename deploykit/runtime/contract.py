"""The contract an ONNX file carries: how a sample becomes the input, what the outputs mean, where the file came from.

It lies as one JSON document in the file's ``metadata_props`` under the key ``deploykit``. Here it is plain data that is
checked on the way in (a file from a stranger may hold anything) and written in one canonical form on the way out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, cast

from deploykit.errors import ContractError

KEY = "deploykit"
VERSION = 1
MAX_BYTES = 4 << 20
MAX_SIDE = 16_384
MAX_AREA = 1 << 26
MAX_LABELS = 100_000
MAX_EXAMPLE = 1 << 24  # elements of a sample that the file asks to be tried with
# Bounds of scale, mean and std: within them no pixel becomes infinite in float32.
SMALLEST, LARGEST = 1e-9, 1e9

Interpolation = Literal["nearest", "bilinear", "bicubic"]
Fit = Literal["stretch", "center-crop"]
Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True)
class ImageInput:
    """How an image becomes the network's input, float32 (batch, channels, height, width).

    In this order: turn as EXIF says, put transparency on `background`, convert to `channels` (1 grey, 3 RGB), resize with
    Pillow's antialiased `interpolation`, crop, multiply by `scale`, subtract `mean`, divide by `std` (per channel).

    `fit` "stretch" resizes to (height, width); "center-crop" resizes the shorter side to `resize` pixels and cuts
    (height, width) out of the middle, as torchvision's classification transforms do. The longer side is cut
    down to a whole number; the cut begins after half of the pixels that are left over, rounded half to even. Where pixels are
    missing, half of them, rounded down, come before the image and the rest after it, black.
    """

    channels: int
    height: int
    width: int
    interpolation: Interpolation = "bilinear"
    fit: Fit = "stretch"
    resize: int | None = None
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    background: int = 0
    kind: Literal["image"] = "image"

    def __post_init__(self) -> None:
        _require(self.kind == "image", "kind of input", self.kind)
        _require(_is_int(self.channels) and self.channels in (1, 3), "channels (1 or 3)", self.channels)
        for name in ("height", "width"):
            value = getattr(self, name)
            _require(_is_int(value) and 1 <= value <= MAX_SIDE, f"{name} (1 to {MAX_SIDE})", value)
        _require(self.interpolation in ("nearest", "bilinear", "bicubic"), "interpolation", self.interpolation)
        _require(self.fit in ("stretch", "center-crop"), "fit", self.fit)
        if self.fit == "center-crop":
            _require(_is_int(self.resize) and 1 <= cast(int, self.resize) <= MAX_SIDE, "resize", self.resize)
        else:
            _require(self.resize is None, "resize (only with fit center-crop)", self.resize)
        sides = self.resize or 0
        _require(max(self.height * self.width, sides * sides) <= MAX_AREA, f"size (at most {MAX_AREA} pixels)", self.height)
        _require(_is_real(self.scale) and SMALLEST <= self.scale <= LARGEST, "scale", self.scale)
        for name in ("mean", "std"):
            values = getattr(self, name)
            _require(isinstance(values, tuple) and len(values) in (1, self.channels), f"length of {name}", values)
            _require(all(_is_real(v) and abs(v) <= LARGEST for v in values), name, values)
        _require(all(v >= SMALLEST for v in self.std), "std (above 0)", self.std)
        _require(_is_int(self.background) and 0 <= self.background <= 255, "background (0 to 255)", self.background)


@dataclass(frozen=True)
class ArrayInput:
    """The network takes arrays as they are; `shape` is without the batch, `None` where any size goes."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    kind: Literal["array"] = "array"

    def __post_init__(self) -> None:
        _require(self.kind == "array", "kind of input", self.kind)
        _require(isinstance(self.shape, tuple) and len(self.shape) <= 8, "shape", self.shape)
        _require(all(s is None or (_is_int(s) and 1 <= s <= 1 << 31) for s in self.shape), "shape", self.shape)
        _require(isinstance(self.dtype, str) and len(self.dtype) <= 16, "dtype", self.dtype)


@dataclass(frozen=True)
class Output:
    """What the first output means: one number per label, turned into probabilities by `activation`."""

    activation: Activation = "none"
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _require(self.activation in ("softmax", "sigmoid", "none"), "activation", self.activation)
        if self.labels is not None:
            _require(isinstance(self.labels, tuple) and 1 <= len(self.labels) <= MAX_LABELS, "labels", self.labels)
            _require(all(_is_text(x) and len(x) <= 1000 for x in self.labels), "labels", "other than short texts")


@dataclass(frozen=True)
class Contract:
    """All that travels in the file. `provenance` and `verdict` are JSON objects for people and programs to read.

    `input`: of a network with several inputs, the first one; samples for those are made by the application.
    `preprocessing_in_graph`: the file itself takes raw uint8 images, (batch, height, width, channels), of any size.
    """

    input: ImageInput | ArrayInput
    output: Output
    preprocessing_in_graph: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None

    def example_shapes(self) -> dict[str, tuple[int, ...]]:
        """`example_sizes` without the batch."""
        return {name: tuple(size for size in sizes if size is not None) for name, sizes in self.example_sizes().items()}

    def example_sizes(self) -> dict[str, tuple[int | None, ...]]:
        """Whole shapes that the network was exported with, by input, `None` for the batch.

        Left out: what is no such record, and what is too large.
        """
        recorded = self.provenance.get("inputs")
        found: dict[str, tuple[int | None, ...]] = {}
        for entry in recorded if isinstance(recorded, list) else ():
            name, shape = (entry.get("name"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(shape, list) or len(shape) > 8:
                continue
            if all(_is_int(size) and size >= 1 for size in shape) and math.prod(shape) <= MAX_EXAMPLE:
                batch = entry.get("batch_axis", 0)
                at = batch if _is_int(batch) and 0 <= batch <= len(shape) else 0
                found[name] = (*shape[:at], *(() if batch is None else (None,)), *shape[at:])
        return found

    def dumps(self) -> str:
        """One canonical JSON text: sorted keys, no spaces, so that equal contracts are equal bytes."""
        document = {"version": VERSION, **asdict(self)}
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def loads(text: str) -> Contract:
    """Read and check a contract. Raises `ContractError` for anything that `Contract.dumps` would not have written."""
    document = _object(_parse(text), "the contract")
    version = document.get("version")
    if not _is_int(version):
        raise ContractError("the contract in the file has no version", "export the file again")
    if version != VERSION:
        raise ContractError(f"the contract in the file has version {version}, this deploykit reads {VERSION}", "update deploykit")
    source = _object(document.get("input"), "the contract's input")
    kinds = {"image": ImageInput, "array": ArrayInput}
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ContractError(f"the contract's input is of the unknown kind {_short(kind)}", "export the file again")
    embedded = document.get("preprocessing_in_graph", False)
    _require(isinstance(embedded, bool), "preprocessing_in_graph", embedded)
    verdict = document.get("verdict")
    return Contract(
        input=_build(kinds[kind], source),
        output=_build(Output, _object(document.get("output"), "the contract's output")),
        preprocessing_in_graph=embedded,
        provenance=_object(document.get("provenance", {}), "the contract's provenance"),
        verdict=None if verdict is None else _object(verdict, "the contract's verdict"),
    )


def input_from_dict(document: Mapping[str, Any]) -> ImageInput | ArrayInput:
    """The `input` part alone, as a checkpoint's header stores it. Raises `ContractError`."""
    kinds = {"image": ImageInput, "array": ArrayInput}
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in kinds:
        raise ContractError(f"an input of the unknown kind {_short(kind)}")
    return cast("ImageInput | ArrayInput", _build(kinds[kind], document))


def _build(cls: type, source: Mapping[str, Any]) -> Any:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(source) - known)
    if unknown:
        raise ContractError(f"the contract has the unknown key {_short(unknown[0])}", "update deploykit")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in source.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ContractError(f"the contract is incomplete ({error})", "export the file again") from error


def _parse(text: str) -> Any:
    if len(text) > MAX_BYTES:
        raise ContractError(f"the contract in the file is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"the contract in the file is not valid JSON ({type(error).__name__})") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ContractError(f"{what} is not a JSON object", "export the file again")
    return value


def _require(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise ContractError(f"the contract's {what} cannot be {_short(value)}")


def _short(value: object) -> str:
    text = repr(value[:4] if isinstance(value, (tuple, list)) else value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_real(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _is_text(value: object) -> bool:
    """A text that can be written: JSON can smuggle in halves of surrogate pairs."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False
