from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploykit.errors import ImageError
from deploykit.runtime import Predictor
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.images import MAX_SCANS, open_image
from deploykit.runtime.preprocessing import flatten, preprocess, to_pixels

GREY = np.random.default_rng(1).integers(0, 256, (12, 17), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_of(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 0) -> bytes:
    """A PNG that claims a size, whatever it holds."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_lossless_formats_give_the_pixels(kind: str, tmp_path: Path) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(Image.fromarray(GREY), kind, **options)
    path = tmp_path / "image.whatever"  # the content decides, not the name
    path.write_bytes(data)
    for source in (path, str(path), data, bytearray(data), memoryview(data)):
        image = open_image(source)
        np.testing.assert_array_equal(np.asarray(image.convert("L")), GREY)


def test_jpeg_is_what_pillow_reads() -> None:
    data = encoded(Image.fromarray(GREY), "JPEG", quality=90)
    np.testing.assert_array_equal(np.asarray(open_image(data)), np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG"])
def test_truncated_files_are_refused(kind: str) -> None:
    rough = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(rough), kind)
    for end in (3, 9, 20, len(data) // 4, len(data) // 2, len(data) - len(data) // 8):
        with pytest.raises(ImageError) as error:
            open_image(data[:end])
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG"])
def test_damaged_bytes_never_raise_anything_else(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    whole = encoded(Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)), kind)
    rules = ImageInput(1, 8, 8)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(4, len(data), size=rng.integers(1, 12)):
            data[place] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns about some of it
            with contextlib.suppress(ImageError):
                to_pixels(open_image(bytes(data), max_pixels=1_000_000), rules)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"P5",
        b"P5 0 0 255\n",
        b"GIF89a",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        b"\xff\xd8\xff",
        b"\0" * 1000,
    ],
)
def test_what_is_no_image(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "no.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"no\.png") as error:
        open_image(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"%PDF-1.4", b"\x00\x00\x01\x00\x01\x00", b"FITS", b"8BPS\0\1"]
)
def test_formats_that_are_not_on_the_list(content: bytes) -> None:
    with pytest.raises(ImageError, match="not an image in a known format"):
        open_image(content + b"\0" * 100)


def test_no_pixels() -> None:
    for size in ((0, 5), (5, 0)):
        with pytest.raises(ImageError):
            open_image(png_of(*size))
    with pytest.raises(ImageError, match="no pixels"):
        open_image(np.zeros((0, 5), np.uint8))


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    """A few bytes that claim ten thousand megapixels; Pillow's own guard would only warn at ninety."""
    bombs = {
        "huge": png_of(100_000, 100_000),
        "just": png_of(10_001, 10_000, zlib.compress(b"\0" * 1000)),
        "ppm": b"P6 60000 60000 255\n",
    }
    for name, data in bombs.items():
        path = tmp_path / f"{name}.png"
        path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError, match=rf"{name}\.png is too large: .* more than 100,000,000 pixels"):
                open_image(path)


def test_pillows_own_limit_is_neither_used_nor_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(GREY), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert open_image(data).size == (17, 12)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_a_strip_does_not_become_gigabytes() -> None:
    rules = ImageInput(3, 224, 224, fit="center-crop", resize=256)
    with pytest.raises(ImageError, match="too narrow: 1x1000000"):
        preprocess(Image.new("L", (1, 1_000_000)), rules)
    assert preprocess(Image.new("L", (1, 1000)), rules).shape == (3, 224, 224)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(kind: str) -> None:
    frames = [Image.new("L", (4, 4), level) for level in (10, 200, 90)]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {}))
    assert np.asarray(open_image(data).convert("L")).tolist() == [[10] * 4] * 4


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16", "I;16B"],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_gives_bytes_or_a_clear_error(mode: str, channels: int, tmp_path: Path) -> None:
    image = Image.new(mode, (9, 5))
    try:
        pixels = to_pixels(open_image(image), ImageInput(channels, 4, 6))
    except (ImageError, ValueError):
        assert mode in ("LAB", "RGBa", "La", "HSV", "RGBX")
        return
    assert pixels.shape == (4, 6, channels)
    assert pixels.dtype == np.uint8


def test_unconvertible_modes_are_image_errors_for_the_app(digits_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "lab.tif"
    Image.new("LAB", (9, 5)).save(path)
    with pytest.raises(ImageError, match=r"lab\.tif cannot be converted"):
        Predictor(digits_file, device="cpu").predict(path)


def test_sixteen_bits_become_eight() -> None:
    wide = GREY.astype(np.uint16) * 257
    image = open_image(encoded(Image.fromarray(wide), "PNG"))
    np.testing.assert_array_equal(np.asarray(flatten(image, 1, 0)), GREY)
    odd = np.array([[0, 128, 129, 385, 65535 - 129, 65535 - 128, 65535]], np.uint16)
    assert np.asarray(flatten(Image.fromarray(odd), 1, 0)).tolist() == [[0, 0, 1, 1, 254, 255, 255]]
    assert np.asarray(flatten(Image.fromarray(np.array([[-5, 70_000]], np.int32)), 1, 0)).tolist() == [[0, 255]]
    assert np.asarray(flatten(Image.fromarray(np.array([[-1.0, 0.5, 2.0]], np.float32)), 1, 0)).tolist() == [[0, 128, 255]]
    with pytest.raises(ImageError, match="not finite"):
        flatten(Image.fromarray(np.array([[np.nan]], np.float32)), 1, 0)


def test_transparency_lies_on_the_background() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert np.asarray(flatten(clear, 3, 77)).tolist() == [[[77] * 3] * 2] * 2
    palette = Image.new("P", (2, 2))
    palette.info["transparency"] = 0
    assert np.asarray(flatten(palette, 1, 30)).tolist() == [[30] * 2] * 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_image(orientation: int) -> None:
    """A picture stored as a camera would: turned back from how it should look, with the tag that says so."""
    undo = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }[orientation]  # fmt: skip
    upright = Image.fromarray(GREY)
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = open_image(encoded(stored, "PNG", exif=exif))
    np.testing.assert_array_equal(np.asarray(flatten(image, 1, 0)), GREY)


def test_broken_exif_is_an_image_error_or_ignored(tmp_path: Path) -> None:
    plain = encoded(Image.fromarray(GREY), "PNG")
    for body in (b"", b"Exif\0\0", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09\0\0\0\x01\0\0", b"garbage" * 9):
        chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        data = plain[:33] + chunk + plain[33:]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.suppress(ImageError):
                assert flatten(open_image(data), 1, 0).size == (17, 12)


def test_file_names_that_are_hard_to_print(tmp_path: Path) -> None:
    for name in ("line\nbreak.png", "\x1b[31mred.png", "a\rb.png"):
        with pytest.raises(ImageError) as error:
            open_image(tmp_path / name)
        assert str(error.value).isprintable()


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="is larger than"):
        open_image(path)


# --- scans of a JPEG ---

PHOTO = Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 56, 3), dtype=np.uint8))
END = b"\xff\xd9"


def segments(data: bytes) -> list[int]:
    """Where the segments begin that start a scan, found by Pillow's own rule for a file without FF in its data."""
    return [place for place in range(len(data)) if data.startswith(b"\xff\xda\x00", place)]


def of_scans(count: int, between: bytes = b"") -> bytes:
    """A progressive JPEG of exactly `count` scans: its last one, again and again, `between` them."""
    data = encoded(PHOTO, "JPEG", progressive=True, quality=95)
    starts = segments(data)
    last = data[starts[-1] : -2]
    return data[:-2] + (between + last) * (count - len(starts)) + END


def test_what_follows_the_image_is_not_counted() -> None:
    """Phones append a video to the photograph."""
    video = np.random.default_rng(0).bytes(9 << 20)
    assert video.count(b"\xff\xda") > 100
    for progressive in (False, True):
        data = encoded(PHOTO, "JPEG", progressive=progressive)
        assert np.array_equal(np.asarray(open_image(data + video)), np.asarray(Image.open(io.BytesIO(data))))
        assert open_image(data + of_scans(120)).size == PHOTO.size  # a second picture, which nobody decodes


def test_scans_inside_of_segments_are_not_counted() -> None:
    """A thumbnail, a colour profile or a comment may hold any bytes."""
    data = encoded(PHOTO, "JPEG", quality=95)
    held = b"".join(kind + b"\xfa\x02" + b"\xff\xda\x00\x02" * 16_000 for kind in (b"\xff\xe1", b"\xff\xe2", b"\xff\xfe"))
    assert open_image(data[:2] + held + data[2:]).size == PHOTO.size


@pytest.mark.parametrize(
    "options", [{"restart_marker_blocks": 1}, {"restart_marker_blocks": 1, "progressive": True}, {"quality": 100}]
)
def test_restart_markers_and_stuffed_bytes_are_no_scans(options: dict[str, object]) -> None:
    data = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 400), dtype=np.uint8)), "JPEG", **options)
    assert open_image(data).size == (400, 400)


@pytest.mark.parametrize("between", [b"", b"\xff\xff\xff", b"\xff\xfe\x00\x04ab", b"\xff\xd0"])
def test_the_most_scans(between: bytes) -> None:
    """Whatever may lie between two scans; one more than `MAX_SCANS` is refused."""
    assert MAX_SCANS == 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert open_image(of_scans(MAX_SCANS, between)).size == PHOTO.size
    with pytest.raises(ImageError, match="more than 100 scans"):
        open_image(of_scans(MAX_SCANS + 1, between))


@pytest.mark.parametrize("junk", [b"\xff\x02", b"\xff\xbf", b"\xff\x01", b"no marker", b"\xff\xd8\xff\xff"])
def test_scans_do_not_hide_behind_markers_that_mean_nothing(junk: bytes) -> None:
    """libjpeg skips them where it looks for the next restart marker: their next two bytes are no length."""
    with pytest.raises(ImageError, match="more than 100 scans"):
        open_image(of_scans(MAX_SCANS + 1, junk))


def test_segments_without_end_are_refused() -> None:
    data = encoded(PHOTO, "JPEG")
    assert open_image(data[:2] + b"\xff\xe5\x00\x02" * 60_000 + data[2:]).size == PHOTO.size
    with pytest.raises(ImageError, match="segments"):
        open_image(data[:2] + b"\xff\xe5\x00\x02" * 70_000 + data[2:])


def test_every_cut_of_a_jpeg_is_read_or_refused() -> None:
    data = of_scans(12)
    for end in range(3, len(data), 37):
        with contextlib.suppress(ImageError):
            open_image(data[:end])


# --- the crop is torchvision's ---


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("resize", "height", "width"),
    [
        (29, 32, 32),
        (29, 27, 20),
        (30, 33, 17),
        (7, 8, 11),
        (8, 15, 6),
        (1, 4, 5),
        (5, 8, 9),
        (6, 12, 13),
        (32, 31, 34),
        (16, 16, 16),
    ],
)
def test_the_crop_is_torchvisions(resize: int, height: int, width: int, interpolation: str) -> None:
    """Larger and smaller than the resized image along one axis or both, with an odd or even number of pixels over or missing."""
    transforms = pytest.importorskip("torchvision.transforms")
    mode = transforms.InterpolationMode(interpolation)
    theirs = transforms.Compose([transforms.Resize(resize, mode), transforms.CenterCrop((height, width))])
    rules = ImageInput(3, height, width, interpolation, "center-crop", resize)  # type: ignore[arg-type]
    generator = np.random.default_rng(resize)
    for size in ((37, 37), (40, 61), (61, 40), (33, 90), (12, 13), (5, 9), (31, 32)):
        image = Image.fromarray(generator.integers(1, 256, (*size, 3), dtype=np.uint8))
        assert np.array_equal(to_pixels(image, rules), np.asarray(theirs(image))), size
