"""Files and folders as they are given to `deploykit serve` -> the models in them, by name and version. Nothing is loaded.

A file is one model of version 1: `model.onnx` is named after its folder, any other after itself. A folder is one model
(`model.onnx` in it, or a folder per version: `1/model.onnx`), several files, or a folder of such folders, as a repository of
Triton's is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deploykit.errors import InputError, ModelFileError, first_line

MODEL = "model.onnx"
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Source:
    """A model that can be loaded: its files by version. `origin` is what was given; looking there again finds new versions.

    `place`: where it lies there, which stays while versions come and go and whatever it is called: its folder, or a file with a
    name of its own.
    """

    name: str
    files: dict[int, Path]
    origin: Path
    place: Path

    def again(self) -> Source:
        """The same model as it lies there now. Raises `InputError` where it is gone."""
        found = [source for source in _sources(self.origin) if source.place == self.place]
        if not found:
            raise InputError(f"the model {self.name!r} is no longer in {self.origin}")
        return replace(self, files=found[0].files)


def find(given: Sequence[str | os.PathLike[str]], names: Sequence[str] = ()) -> list[Source]:
    """The models in files and folders, in that order; `names` for them, one each, or none at all.

    Raises `InputError` for a folder without models, two models of one name, a name that no address could hold, and
    `ModelFileError` for a file that is not there.
    """
    found = [source for path in given for source in _sources(Path(path))]
    if names:
        if len(names) != len(found):
            raise InputError(
                f"{len(names)} names are given for {len(found)} models", "give --name once for each model, in their order"
            )
        found = [replace(source, name=name) for name, source in zip(names, found, strict=True)]
    if not found:
        raise InputError("there is nothing to serve", "give ONNX files, or folders with models")
    seen: dict[str, Source] = {}
    for source in found:
        if not _NAME.fullmatch(source.name):
            raise InputError(
                f"a model cannot be served under the name {source.name!r:.80}",
                "give another with --name: letters, digits, dots, dashes and underscores",
            )
        if source.name in seen:
            places = f"{seen[source.name].origin} and {source.origin}"
            raise InputError(f"two models have the name {source.name!r} ({places})", "give them names of their own with --name")
        seen[source.name] = source
    return found


def _sources(path: Path) -> Iterable[Source]:
    if _is_file(path):
        return [_of_file(path, path)]
    if not path.exists():
        raise ModelFileError(f"there is no file or folder {path}", "give an ONNX file, or a folder with models")
    try:
        found = _in_folder(path, path)
        for folder in sorted(path.iterdir()) if not found else ():
            if folder.is_dir() and not folder.name.startswith("."):
                found += _in_folder(folder, path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}") from error
    if not found:
        raise InputError(f"no models are in {path}", f"a model is NAME/{MODEL}, NAME/1/{MODEL} or NAME.onnx")
    return found


def _in_folder(folder: Path, origin: Path) -> list[Source]:
    versions = {int(sub.name): file for sub in folder.iterdir() if _VERSION.fullmatch(sub.name) and (file := _only_file(sub))}
    if versions:
        return [Source(folder.resolve().name, dict(sorted(versions.items())), origin, folder)]
    files = sorted(file for file in folder.glob("*.onnx") if _is_file(file) and not file.name.startswith("."))
    # What an export rejected lies beside the file that it did not replace: it is served only where it is named itself.
    files = [file for file in files if not file.name.endswith(".rejected.onnx")]
    return [_of_file(file, origin) for file in files]


def _of_file(file: Path, origin: Path) -> Source:
    return Source(_file_name(file), {1: file}, origin, file.parent if file.name == MODEL else file)


def _only_file(folder: Path) -> Path | None:
    if _is_file(folder / MODEL):
        return folder / MODEL
    files = [file for file in folder.glob("*.onnx") if _is_file(file)] if folder.is_dir() else []
    return files[0] if len(files) == 1 else None


def _file_name(file: Path) -> str:
    """`lenet5/model.onnx` and `lenet5.onnx` are both "lenet5"."""
    return file.resolve().parent.name if file.name == MODEL else file.name.removesuffix(".onnx")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
