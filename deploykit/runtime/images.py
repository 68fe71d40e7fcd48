"""Paths, bytes and arrays -> Pillow images: of known formats only, never more pixels than agreed, one error for whatever is wrong.

Pillow's own guard against decompression bombs is a process-wide setting that first warns; here the limit is an argument and
the answer an exception. A format's reader is called directly, after a look at the first bytes, so Pillow's other readers
(some of them run programs or talk to the network's idea of a file) are never reached, nor even imported.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import DeploykitError, ImageError, first_line, kind_of, with_article
from deploykit.runtime.reading import read_file, read_stream, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

MAX_BYTES = 256 << 20
MAX_PIXELS = 100_000_000
MAX_SCANS = 100  # of a progressive JPEG; ten are usual
MAX_SEGMENTS = 65_536  # of a JPEG; a colour profile or a large XMP packet has thousands
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")

# A marker that counts: of a segment with a length, or the end of the image. Between them lie the data of a scan, where FF 00 is
# a byte of data and FF D0 to FF D7 are restart markers; any number of FF may come before a marker (ITU-T T.81, annex B).
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9

# First bytes -> Pillow's module and class.
_READERS = (
    ((b"\x89PNG\r\n\x1a\n",), "PngImagePlugin", "PngImageFile"),
    ((b"\xff\xd8\xff",), "JpegImagePlugin", "JpegImageFile"),
    ((b"GIF87a", b"GIF89a"), "GifImagePlugin", "GifImageFile"),
    ((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TiffImagePlugin", "TiffImageFile"),
    ((b"BM",), "BmpImagePlugin", "BmpImageFile"),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PpmImagePlugin", "PpmImageFile"),
)


def open_image(source: Any, max_pixels: int = MAX_PIXELS) -> Image:
    """A path, the bytes of an image file, a Pillow image or a uint8 array (h, w), (h, w, 1), (h, w, 3), (h, w, 4) -> Pillow.

    The first frame where there are several. Raises `ImageError` naming the file: missing, of another format, damaged,
    truncated, of no size, or with more than `max_pixels` pixels (found out before they are unpacked).
    """
    if isinstance(source, (str, os.PathLike)):
        return _decode(read_file(source, MAX_BYTES, ImageError), shown(source), max_pixels)
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        if not 0 < len(data) <= MAX_BYTES:
            raise ImageError(f"the image has {len(data):,} bytes", f"1 to {MAX_BYTES:,} can be read")
        return _decode(data, "the image", max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if hasattr(source, "getexif") and hasattr(source, "load"):
        return _loaded(source, "the image", max_pixels)
    if callable(getattr(source, "read", None)):
        return _decode(read_stream(source, MAX_BYTES, ImageError, "the open image"), "the image", max_pixels)
    if hasattr(source, "detach"):
        raise ImageError(
            f"an image cannot be {kind_of(source)}", _as_image("tensor.cpu().numpy()", source.shape, str(source.dtype))
        )
    raise ImageError(
        f"an image cannot be {kind_of(source)}",
        "give a path, an open file, bytes, a Pillow image or a uint8 array (height, width[, 3])",
    )


def image_mode(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> str:
    """Pillow's name of the channels, such as "RGB", from the first bytes alone. Raises `ImageError`; the pixels may be damaged."""
    mode: str = _described(path, max_pixels).mode
    return mode


def image_size(path: str | os.PathLike[str], max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) as EXIF turns it, from the first bytes alone. Raises `ImageError`; the pixels may be damaged."""
    image = _described(path, max_pixels)
    try:
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)
    except Exception:  # damaged EXIF turns nothing, as in preprocessing
        turned = False
    width, height = image.size
    return (height, width) if turned else (width, height)


def _described(path: str | os.PathLike[str], max_pixels: int) -> Image:
    """An image whose header was read, of a file that is closed again."""
    name = shown(path)
    try:
        with open(path, "rb") as stream:  # noqa: PTH123  # as Pillow does, for any path that is one
            start = stream.read(16)
            stream.seek(0)
            image = _opened(start, stream, name)
            _check_size(image.size, name, max_pixels)
    except OSError as error:
        raise ImageError(f"{name} cannot be read ({first_line(error, 120)})", "check the path") from error
    return image


def _decode(data: bytes, name: str, max_pixels: int) -> Image:
    if data.startswith(b"\xff\xd8"):
        _check_scans(data, name)
    return _loaded(_opened(data[:16], BytesIO(data), name), name, max_pixels)


def _check_scans(data: bytes, name: str) -> None:
    """Raise `ImageError` for a JPEG of too many scans, up to the end of its first image: what is appended is not decoded.

    Segments are skipped by their length, so a thumbnail inside of one does not count. Where the file is damaged the search goes
    on at the next marker, as libjpeg's does.
    """
    position = scans = segments = 0
    while (match := _MARKER.search(data, position)) and data[match.end() - 1] != _END_OF_IMAGE:
        begin = match.end()
        position = begin + max(2, int.from_bytes(data[begin : begin + 2], "big"))
        segments += 1
        scans += data[begin - 1] == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise ImageError(f"{name} has more than {MAX_SCANS} scans, each as much work as a picture", "save it again")
        if segments > MAX_SEGMENTS:
            raise ImageError(f"{name} has more than {MAX_SEGMENTS:,} segments", "save it again")


def _opened(start: bytes, stream: IO[bytes], name: str) -> Image:
    reader = _reader_of(start)
    if reader is None:
        raise ImageError(f"{name} is not an image in a known format", "PNG, JPEG, BMP, GIF, TIFF, WebP and PPM are")
    try:
        image: Image = reader(stream)
    except DeploykitError:
        raise
    except Exception as error:  # a damaged file makes Pillow raise anything from SyntaxError to struct.error
        raise ImageError(f"{name} is damaged or not what it seems ({first_line(error, 120)})", "save it again") from error
    return image


def _reader_of(data: bytes) -> Any:
    for starts, module, reader in _READERS:
        if data.startswith(starts):
            return getattr(import_module(f"PIL.{module}"), reader)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return getattr(import_module("PIL.WebPImagePlugin"), "WebPImageFile", None)
    return None


def _loaded(image: Image, name: str, max_pixels: int) -> Image:
    """Unpack the pixels, having looked at their number first."""
    _check_size(image.size, name, max_pixels)
    try:
        if any(tile[0] == "libtiff" for tile in getattr(image, "tile", ())):
            from deploykit.runtime.quiet import LIBTIFF, held_stderr

            with held_stderr(LIBTIFF):
                image.load()
        else:
            image.load()
    except Exception as error:
        raise ImageError(f"{name} is truncated or damaged ({first_line(error, 120)})", "save it again") from error
    _check_size(image.size, name, max_pixels)
    return image


def _from_array(pixels: NDArray[Any], max_pixels: int) -> Image:
    from PIL import Image

    shape = pixels.shape
    if pixels.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))):
        raise ImageError(
            f"an image cannot be {with_article(str(pixels.dtype))} array of shape {shape}",
            _as_image("array", shape, str(pixels.dtype)),
        )
    _check_size((shape[1], shape[0]), "the image", max_pixels)
    if len(shape) == 3 and shape[2] == 1:
        pixels = pixels[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _as_image(name: str, shape: tuple[int, ...], dtype: str) -> str:
    """What makes an image of an array called `name`: the expression to type, where its shape tells what it is."""
    colours = (1, 3, 4)
    text = name
    if len(shape) == 3 and shape[0] in colours and shape[2] not in colours:
        text += ".transpose(1, 2, 0)"
    elif len(shape) == 4 and shape[1] in colours and shape[3] not in colours:
        text += ".transpose(0, 2, 3, 1)"
    elif not (len(shape) == 2 or (len(shape) in (3, 4) and shape[-1] in colours)):
        return "give uint8 (height, width) or (height, width, 1, 3 or 4)"
    condition = ""
    if dtype.removeprefix("torch.").startswith(("float", "bfloat")):
        text, condition = f"({text} * 255).round().astype('uint8')", " if its values are from 0 to 1"
    elif dtype.removeprefix("torch.") != "uint8":
        text += ".astype('uint8')"
    return (f"ask about several with predict_many({text})" if len(shape) == 4 else f"give {text}") + condition


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width}x{height})")
    if width * height > max_pixels:
        raise ImageError(
            f"{name} is too large: {width}x{height} is more than {max_pixels:,} pixels", "make it smaller, or raise max_pixels"
        )
