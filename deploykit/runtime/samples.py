"""What an app hands over becomes a sample, samples become the network's input; all as the contract says."""

from __future__ import annotations

import os
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from deploykit.errors import ImageError, InputError, kind_of
from deploykit.runtime.checks import check_finite
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput
from deploykit.runtime.geometry import Placed, placed
from deploykit.runtime.reading import read_file, read_stream, shown

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_ARRAY_BYTES = 1 << 30


def sample_of(source: Any, contract: Contract, max_pixels: int, channels: Literal["rgb", "bgr"] = "rgb") -> NDArray[Any]:
    """One input without the batch: uint8 (height, width, channels) for images, otherwise an array of the contract's shape.

    `channels`: the order of the colours in an array that is an image.
    Images keep their size where the graph resizes them itself. Raises `ImageError`, `InputError`.
    """
    if isinstance(contract.input, ArrayInput):
        return array_of(source, contract.input)
    return pixels_of(source, contract.input, contract.preprocessing_in_graph, max_pixels, channels)[0]


def pixels_of(
    source: Any, rules: ImageInput, embedded: bool, max_pixels: int, channels: Literal["rgb", "bgr"] = "rgb"
) -> tuple[NDArray[Any], Placed]:
    """One image -> uint8 (height, width, channels), and where it lies in the input.

    `embedded`: the graph resizes it itself, so the image keeps its size. Raises `ImageError`.
    """
    # Pillow is loaded when the first image comes, not with the package.
    from deploykit.runtime.images import open_image
    from deploykit.runtime.preprocessing import flatten, to_pixels

    image = open_image(_as_rgb(source) if channels == "bgr" else source, max_pixels)
    try:
        upright = flatten(image, rules.channels, rules.background)
        place = placed(upright.size, rules)  # refuses what the graph would need gigabytes for
        if not embedded:
            return to_pixels(upright, rules), place
        flat = np.asarray(upright, dtype=np.uint8)
        return flat.reshape(flat.shape[0], flat.shape[1], rules.channels), place
    except ImageError as error:
        raise ImageError(f"{_name_of(source)}: {error.problem}", error.hint) from error
    except (ValueError, OSError, MemoryError) as error:  # Pillow cannot convert every mode
        raise ImageError(f"{_name_of(source)} cannot be converted ({type(error).__name__}: {error})", "save it as RGB") from error


def _as_rgb(source: Any) -> Any:
    """An array (height, width, 3 or 4) with its first and third channel exchanged; anything else as it is."""
    if isinstance(source, np.ndarray) and source.ndim == 3 and source.shape[2] in (3, 4):
        return source[:, :, [2, 1, 0, 3][: source.shape[2]]]
    return source


def batch_of(samples: list[NDArray[Any]], contract: Contract, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Samples of one shape -> the network's input (batch, ...) of `dtype`."""
    return stacked_of(samples, contract.input, contract.preprocessing_in_graph, dtype)


def stacked_of(
    samples: list[NDArray[Any]], rules: ImageInput | ArrayInput, embedded: bool, dtype: np.dtype[Any], axis: int = 0
) -> NDArray[Any]:
    """Samples of one shape -> one input of `dtype`, with the batch at `axis`."""
    stacked = np.stack(samples, axis)
    if isinstance(rules, ImageInput) and not embedded:
        from deploykit.runtime.preprocessing import normalize

        stacked = normalize(stacked, rules)
    return stacked.astype(dtype, copy=False)


def load_array(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in a .npy file; never a pickle. Raises `InputError` naming the file."""
    return _parsed(read_file(path, MAX_ARRAY_BYTES, InputError), shown(path))


def _parsed(data: bytes, name: str) -> NDArray[Any]:
    """The array whose .npy file has these bytes. Raises `InputError` with the `name`."""
    stream = BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        # A forged header may claim any size; believe it only if the numbers are there.
        expected = dtype.itemsize * _product(shape)
        if dtype.hasobject or expected != len(data) - stream.tell():
            raise ValueError("the header does not fit the data" if not dtype.hasobject else "it holds Python objects")
        stream.seek(0)
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception as error:  # the header is parsed text: anything may be raised
        raise InputError(f"{name} is no readable .npy file ({str(error)[:120]})", "write it with numpy.save") from error
    return array


def array_of(source: Any, rules: ArrayInput) -> NDArray[Any]:
    """An array, or a .npy file by its path or open -> the array in the dtype of the input. Raises `InputError`."""
    name = _name_of(source, "the array")
    if isinstance(source, (str, os.PathLike)):
        array = load_array(source)
    elif isinstance(source, np.ndarray):
        array = source
    elif callable(getattr(source, "read", None)):
        array = _parsed(read_stream(source, MAX_ARRAY_BYTES, InputError, "the open file"), "the open file")
    else:
        hint = "give tensor.cpu().numpy()" if hasattr(source, "detach") else "the network takes numpy arrays or .npy files"
        raise InputError(f"an input cannot be {kind_of(source)}", hint)
    if array.ndim != len(rules.shape) or any(w not in (None, h) for w, h in zip(rules.shape, array.shape, strict=True)):
        wanted = "(" + ", ".join("any" if s is None else str(s) for s in rules.shape) + ")"
        raise InputError(f"{name} has shape {array.shape}, the network takes {wanted}")
    if not array.size:
        raise InputError(f"{name} is empty: shape {array.shape}")
    dtype = np.dtype(rules.dtype)
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise InputError(f"{name} holds {array.dtype}, the network takes {dtype}", f"convert it: array.astype({dtype.name!r})")
    with np.errstate(over="ignore"):  # what becomes infinite is reported below
        array = array.astype(dtype, copy=False)
    if dtype.kind == "f":
        check_finite(array, name)
    return array


def _name_of(source: Any, otherwise: str = "the image") -> str:
    return shown(source) if isinstance(source, (str, os.PathLike)) else otherwise


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= int(size)
    return product
