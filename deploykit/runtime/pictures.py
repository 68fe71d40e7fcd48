"""Answers as pictures: a mask over its image, boxes drawn into it. Pillow alone; no text of a file becomes anything but text."""

from __future__ import annotations

import colorsys
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from deploykit.runtime.results import Detections, Segmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray

COVER = 0.5  # of a mask over its image, 0..1
LEGEND = 8  # labels at most
_GOLDEN = 0.618033988749895  # colours that follow each other in the list lie far apart on the circle of hues


def palette(count: int) -> NDArray[np.uint8]:
    """(count, 3): a colour for each label, the same in every picture; label 0 is black, as the usual background is."""
    hues = [colorsys.hsv_to_rgb((_GOLDEN * index) % 1, 0.75, 0.95) for index in range(1, count)]
    return np.round(np.array([(0.0, 0.0, 0.0), *hues]) * 255).astype(np.uint8)


def mask_png(found: Segmentation) -> bytes:
    """The mask as a PNG whose values are the indices of the labels: 8 bits with a palette, 16 where there are more labels.

    Pixels that were not seen have the largest value. Raises `ValueError` for more labels than 16 bits hold.
    """
    mask = found.mask
    if mask.dtype == np.uint8:
        image = Image.fromarray(mask)
        image.putpalette(np.concatenate([palette(255), [[128, 128, 128]]]).astype(np.uint8).tobytes())
    elif mask.dtype == np.uint16:
        image = Image.fromarray(mask)
    else:
        raise ValueError(f"a mask of {mask.dtype} has more labels than a PNG can hold")
    return _png(image)


def overlay_png(found: Segmentation, image: Image.Image) -> bytes:
    """The labels over the image, with the names of the largest."""
    pixels = np.asarray(image.convert("RGB"), np.float32)
    seen = found.mask != found.unseen
    colours = palette(256)[np.where(seen, found.mask, 0).astype(np.intp) % 256].astype(np.float32)
    mixed = np.where(seen[:, :, None], pixels * (1 - COVER) + colours * COVER, pixels * 0.3)
    picture = Image.fromarray(np.round(mixed).astype(np.uint8))
    names = [(f"{area.label} {area.share:.0%}", area.index) for area in found.areas[:LEGEND]]
    _legend(picture, names)
    return _png(picture)


def boxes_png(found: Detections, image: Image.Image) -> bytes:
    """The boxes drawn into the image, the best last, each with its label and score."""
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    line, font = max(2, max(picture.size) // 300), _font(picture)
    for each in reversed(found.detections):
        colour = _colour(each.index + 1)
        left, top, right, bottom = each.box
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=line)
        text = _plain(f"{each.label} {each.score:.2f}")
        box = draw.textbbox((0, 0), text, font=font)
        high, wide = box[3] + 4, box[2] + 6
        above = top - high if top >= high else min(top + line, picture.height - high)
        start = min(left, max(0, picture.width - wide))
        draw.rectangle((start, above, start + wide, above + high), fill=colour)
        draw.text((start + 3, above + 2), text, fill=_ink(colour), font=font)
    return _png(picture)


def _legend(picture: Image.Image, names: list[tuple[str, int]]) -> None:
    draw, font = ImageDraw.Draw(picture), _font(picture)
    texts = [(_plain(text), index) for text, index in names]
    if not texts:
        return
    boxes = [draw.textbbox((0, 0), text, font=font) for text, _ in texts]
    high = max(box[3] for box in boxes) + 4
    wide = max(box[2] for box in boxes) + high + 8
    if wide > picture.width or high * len(texts) + 8 > picture.height:
        return  # a picture of this size has no room for names
    top = picture.height - high * len(texts) - 8
    draw.rectangle((0, top, wide, picture.height), fill=(255, 255, 255))
    for row, (text, index) in enumerate(texts):
        at = top + 4 + row * high
        draw.rectangle((4, at + 2, high, at + high - 2), fill=_colour(index), outline=(60, 60, 60))
        draw.text((high + 4, at + 1), text, fill=(0, 0, 0), font=font)


def _colour(index: int) -> tuple[int, int, int]:
    red, green, blue = palette(256)[index % 256].tolist()
    return red, green, blue


def _ink(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever can be read on the colour."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else (255, 255, 255)


def _font(picture: Image.Image) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=max(11, min(picture.size) // 30))


def _plain(text: str) -> str:
    """Of a label what can be drawn on one line."""
    return "".join(each if each.isprintable() else "?" for each in text)[:60]


def _png(image: Image.Image) -> bytes:
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
