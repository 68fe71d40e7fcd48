"""How a sample becomes an input of the network: an image by rules, or an array as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from deploykit.runtime.contract.requirements import is_int, is_real, require
from deploykit.runtime.contract.words import Fit, Interpolation, Order, Placement

MAX_SIDE = 16_384
MAX_AREA = 1 << 26
# Bounds of scale, mean and std: within them no pixel becomes infinite in float32.
SMALLEST, LARGEST = 1e-9, 1e9


@dataclass(frozen=True)
class ImageInput:
    """How an image becomes the network's input, float32 (batch, channels, height, width).

    In this order: turn as EXIF says, put transparency on `background`, convert to `channels` (1 grey, 3 RGB), resize with
    Pillow's antialiased `interpolation`, crop or pad, put the colours into their `order`, multiply by `scale`, subtract `mean`,
    divide by `std` (per channel, in that order).

    `fit` "stretch" resizes to (height, width); "center-crop" resizes the shorter side to `resize` pixels and cuts
    (height, width) out of the middle, as torchvision's classification transforms do. The longer side is cut
    down to a whole number; the cut begins after half of the pixels that are left over, rounded half to even. Where pixels are
    missing, half of them, rounded down, come before the image and the rest after it, black.

    "letterbox", as detectors use it, resizes the image so that it just fits into (height, width): one side is that one's, the
    other keeps the ratio, rounded half up to a whole number of at least 1. What is missing is `padding`, 0..255, one number or one
    per channel in `order`: with `placement` "center" half of the missing pixels, rounded down, come before the image and the rest
    after it; with "top-left" all of them after it.
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
    order: Order = "rgb"
    padding: tuple[int, ...] = (0,)
    placement: Placement = "center"

    def __post_init__(self) -> None:
        require(self.kind == "image", "kind of input", self.kind)
        require(is_int(self.channels) and self.channels in (1, 3), "channels (1 or 3)", self.channels)
        for name in ("height", "width"):
            value = getattr(self, name)
            require(is_int(value) and 1 <= value <= MAX_SIDE, f"{name} (1 to {MAX_SIDE})", value)
        require(self.interpolation in ("nearest", "bilinear", "bicubic"), "interpolation", self.interpolation)
        require(self.fit in ("stretch", "center-crop", "letterbox"), "fit", self.fit)
        if self.fit == "center-crop":
            require(is_int(self.resize) and 1 <= cast(int, self.resize) <= MAX_SIDE, "resize", self.resize)
        else:
            require(self.resize is None, "resize (only with fit center-crop)", self.resize)
        sides = self.resize or 0
        require(max(self.height * self.width, sides * sides) <= MAX_AREA, f"size (at most {MAX_AREA} pixels)", self.height)
        require(is_real(self.scale) and SMALLEST <= self.scale <= LARGEST, "scale", self.scale)
        for name in ("mean", "std"):
            values = getattr(self, name)
            require(isinstance(values, tuple) and len(values) in (1, self.channels), f"length of {name}", values)
            require(all(is_real(v) and abs(v) <= LARGEST for v in values), name, values)
        require(all(v >= SMALLEST for v in self.std), "std (above 0)", self.std)
        require(is_int(self.background) and 0 <= self.background <= 255, "background (0 to 255)", self.background)
        self._check_colours()

    def _check_colours(self) -> None:
        """The order of the colours, and what is put beside a smaller image."""
        require(self.order in ("rgb", "bgr"), "order", self.order)
        require(self.order == "rgb" or self.channels == 3, "order (of one channel)", self.order)
        padding = self.padding
        require(isinstance(padding, tuple) and len(padding) in (1, self.channels), "length of padding", padding)
        require(all(is_int(level) and 0 <= level <= 255 for level in padding), "padding (0 to 255)", padding)
        require(self.placement in ("center", "top-left"), "placement", self.placement)
        if self.fit != "letterbox":
            require(padding == (0,), "padding (only with fit letterbox)", padding)
            require(self.placement == "center", "placement (only with fit letterbox)", self.placement)


@dataclass(frozen=True)
class ArrayInput:
    """The network takes arrays as they are; `shape` is without the batch, `None` where any size goes."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    kind: Literal["array"] = "array"

    def __post_init__(self) -> None:
        require(self.kind == "array", "kind of input", self.kind)
        require(isinstance(self.shape, tuple) and len(self.shape) <= 8, "shape", self.shape)
        require(all(s is None or (is_int(s) and 1 <= s <= 1 << 31) for s in self.shape), "shape", self.shape)
        require(isinstance(self.dtype, str) and len(self.dtype) <= 16, "dtype", self.dtype)
