"""An ONNX file as bytes, and what must be known of it before onnxruntime may read it: its bounds, and where its weights lie."""

from __future__ import annotations

import os
from pathlib import Path

from deploykit.errors import ModelFileError
from deploykit.runtime.bounds import Survey, survey
from deploykit.runtime.reading import read_file, shown

MAX_BYTES = (1 << 31) - 1  # protobuf's own limit; larger networks keep their weights beside the file


def read_model(path: str | os.PathLike[str]) -> bytes:
    """The whole file, read once: what replaces it afterwards does not matter. Raises `ModelFileError`."""
    return read_file(path, MAX_BYTES, ModelFileError)


def check_external_data(model: bytes, path: Path | None) -> int:
    """A serialized model -> how many bytes the files have that hold weights of it: the second of `surveyed`."""
    return surveyed(model, path)[1]


def surveyed(model: bytes, path: Path | None) -> tuple[Survey, int]:
    """A serialized model -> what is known of it before anybody else reads it, and how many bytes of weights lie in other files.

    `path` is where the model came from; `None` for bytes, which have no folder, so their weights must all be inside.

    Raises `ModelFileError` for a model that is out of bounds, or whose weights lie in a file that is missing, or that is
    neither in the model's own folder nor below it.
    """
    size = 0
    seen = survey(model, "the model" if path is None else shown(path))
    for location in sorted(seen.locations):
        if path is None:
            raise ModelFileError(
                f"the model keeps weights in another file ({location[:80]!r})", "give its path instead of its bytes"
            )
        folder = path.resolve().parent
        try:
            target = (folder / location).resolve()
            inside = not Path(location).is_absolute() and target.is_relative_to(folder)
            there = inside and target.is_file()
        except (OSError, ValueError):
            inside = there = False
        if not inside:
            raise ModelFileError(
                f"{shown(path)} wants weights from outside its folder ({location[:80]!r})", "do not trust this file"
            )
        if not there:
            raise ModelFileError(f"{shown(path)} needs the file {location[:80]!r} beside it, which is not there", "copy both")
        size += target.stat().st_size
    return seen, size
