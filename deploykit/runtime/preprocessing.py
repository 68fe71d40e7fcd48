"""An image becomes an array: the one implementation that training, validation, the runtime and apps share.

numpy and Pillow only. The rules are those of `ImageInput`; whoever wants the same numbers in another language needs no
more than that docstring.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from deploykit.errors import ImageError
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.geometry import placed

_ORIENTATION = 0x0112  # the EXIF tag; PIL.ExifTags is slow to import
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def preprocess(image: Image.Image, rules: ImageInput) -> NDArray[np.float32]:
    """One image -> float32 (channels, height, width), ready for the network."""
    return normalize(to_pixels(image, rules), rules)


def to_pixels(image: Image.Image, rules: ImageInput) -> NDArray[np.uint8]:
    """Turn, flatten, convert, resize, crop or pad -> uint8 (height, width, channels), the colours in the network's order."""
    image = flatten(image, rules.channels, rules.background)
    fitted = _fitted(image, rules, _FILTERS[rules.interpolation])
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(rules.height, rules.width, rules.channels)
    return pixels[:, :, ::-1] if rules.order == "bgr" else pixels


def _fitted(image: Image.Image, rules: ImageInput, resample: Image.Resampling) -> Image.Image:
    """Resized, then cut or padded; what a center-crop has beyond the resized image is black, as in torchvision."""
    place = placed(image.size, rules)
    image = resize(image, place.resized, resample)
    if place.first == (0, 0) and place.resized == place.input:
        return image
    left, top = place.first
    if rules.fit == "center-crop":
        return image.crop((left, top, left + rules.width, top + rules.height))
    padding = rules.padding * rules.channels if len(rules.padding) == 1 else rules.padding
    colour = padding[::-1] if rules.order == "bgr" else padding
    whole = Image.new(image.mode, place.input, colour if rules.channels == 3 else colour[0])
    whole.paste(image, (-left, -top))
    return whole


def resize(image: Image.Image, size: tuple[int, int], resample: Image.Resampling) -> Image.Image:
    """As Pillow 13 does it, whichever version is installed; `size` is (width, height).

    Pillow works along one axis, rounds to 8 bits, then along the other. Which comes first shows in the pixels: until version 12
    it was always the width, since then it is the height where that shrinks by more than twice as many pixels as the width.
    """
    if image.size == size:
        return image
    less_width, less_height = image.width - size[0], image.height - size[1]
    if resample != Image.Resampling.NEAREST and less_height > 0 and less_height > 2 * less_width:
        image = image.resize((image.width, size[1]), resample)
    return image.resize(size, resample)  # of what is left every version does the width first


def normalize(pixels: NDArray[np.uint8], rules: ImageInput) -> NDArray[np.float32]:
    """uint8 (..., height, width, channels) -> float32 (..., channels, height, width): scale, subtract mean, divide by std."""
    factor = np.float32(rules.scale) / np.asarray(rules.std, np.float32)
    offset = (np.asarray(rules.mean, np.float32) / np.asarray(rules.std, np.float32)).astype(np.float32, copy=False)
    # Moved while they are bytes, then worked on in place: a batch of photographs is copied once.
    scaled = np.moveaxis(pixels, -1, -3).astype(np.float32, order="C")
    scaled *= factor[:, None, None]
    scaled -= offset[:, None, None]
    return scaled


def flatten(image: Image.Image, channels: int, background: int) -> Image.Image:
    """Any Pillow image -> mode L (1 channel) or RGB (3), upright, 8 bits, without transparency."""
    image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":
        image = _to_eight_bits(image)
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (background, background, background, 255))
        image = Image.alpha_composite(ground, image)
    return image if image.mode == mode else image.convert(mode)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; the same object where nothing is to be turned."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
        return ImageOps.exif_transpose(image) if turned else image
    except Exception as error:  # broken EXIF data raise anything; which side is up is not for guessing
        raise ImageError(f"the image's EXIF orientation cannot be read ({type(error).__name__})", "save it without EXIF") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """16 bits (0..65535) -> 8 bits by dividing by 257; floats are taken as 0..1. Out of range is clipped."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ImageError("the image has values that are not finite")
        return Image.fromarray(np.floor(np.clip(values, 0, 1).astype(np.float64) * 255 + 0.5).astype(np.uint8))
    # A table: in floating point a scan of a hundred megapixels would need gigabytes.
    eight = np.floor(np.arange(65_536) / 257 + 0.5).astype(np.uint8)
    return Image.fromarray(eight[np.clip(values, 0, 65_535)])
