"""Where an image lies in the network's input, and back: plain numbers, the same for pixels, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from deploykit.errors import ImageError
from deploykit.runtime.contract import MAX_AREA, ImageInput

Size = tuple[int, int]  # (width, height)
Number = TypeVar("Number", bound=Any)


@dataclass(frozen=True)
class Placed:
    """An image of `image` pixels, resized to `resized`, of which the input shows `input` pixels from `first` on.

    All are (width, height) or (x, y). Negative numbers in `first` are pixels of padding before the image.
    """

    image: Size
    resized: Size
    first: tuple[int, int]
    input: Size

    def to_image(self, place: Number, axis: int) -> Number:
        """Places in the input, in pixels along `axis` (0 for x, 1 for y), as places in the image; a number or an array of them."""
        found: Number = (place + self.first[axis]) * (self.image[axis] / self.resized[axis])
        return found


def placed(size: Size, rules: ImageInput) -> Placed:
    """Where an image of `size` lies in the input. Raises `ImageError` as `resized_size` does."""
    wanted = (rules.width, rules.height)
    found = resized_size(size, rules)
    if rules.fit == "center-crop":
        first = (_crop_start(found[0], wanted[0]), _crop_start(found[1], wanted[1]))
    elif rules.fit == "letterbox" and rules.placement == "center":
        first = (-((wanted[0] - found[0]) // 2), -((wanted[1] - found[1]) // 2))
    else:
        first = (0, 0)
    return Placed(size, found, first, wanted)


def resized_size(size: Size, rules: ImageInput) -> Size:
    """(width, height) of an image between resize and crop. Raises `ImageError` where that would be gigabytes."""
    width, height = size
    if rules.fit == "stretch":
        return rules.width, rules.height
    if rules.fit == "letterbox":
        # In whole numbers, so that every language comes to the same; half a pixel is rounded up.
        if rules.width * height <= rules.height * width:
            return rules.width, max(1, (2 * height * rules.width + width) // (2 * width))
        return max(1, (2 * width * rules.height + height) // (2 * height)), rules.height
    side = rules.resize or 0
    found = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    if found[0] * found[1] > 2 * MAX_AREA:  # a strip of one pixel by a million
        raise ImageError(f"the image is too narrow: {width}x{height} would be resized to {found[0]}x{found[1]}", "crop it first")
    return found


def _crop_start(size: int, wanted: int) -> int:
    """The first of `wanted` pixels in the middle of `size`: half of what is left over, half to even; of what is missing, rounded
    down, as a negative number.
    """
    return round((size - wanted) / 2) if size >= wanted else -((wanted - size) // 2)
