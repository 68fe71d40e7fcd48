"""What networks are trained on: one dataset per file; the name of the file is the name of the dataset.

A new dataset is one new file here with ``load(folder: Path | None) -> Dataset``. `folder` is where the user keeps the
files (``--data DIR``), `None` when the dataset was named. A file may also have ``recognizes(folder: Path) -> bool``: a
folder (or file) given as ``--data`` is read by the first dataset that recognizes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploykit import plugins
from deploykit.datasets._colours import in_colour, mixed
from deploykit.datasets._types import IGNORED, Dataset, Sample, Split, Task, as_image
from deploykit.errors import DatasetError, UnknownName

GENERAL = "folder"  # recognizes any folder of images, so it is asked last

__all__ = ["IGNORED", "Dataset", "Sample", "Split", "Task", "as_image", "in_colour", "list_datasets", "load", "mixed", "names"]


def names() -> tuple[str, ...]:
    """Every dataset, sorted; imports none of them."""
    return plugins.names(__name__)


def load(name_or_folder: str, limit: int | None = None) -> Dataset:
    """A dataset by name, or from a folder or file that one of the datasets recognizes.

    Raises `UnknownName` for neither, `DatasetError` for a folder or files that cannot be used.
    """
    if limit is not None and limit < 1:
        raise DatasetError(f"a limit of {limit} samples leaves nothing to train on", "choose --limit 1 or more")
    if name_or_folder in names():
        module = plugins.load(__name__, name_or_folder, "dataset")
        return module.load(None).limited(limit)
    folder = Path(name_or_folder)
    if not folder.exists():
        raise UnknownName.among("dataset", name_or_folder, names(), "a folder of that name does not exist either")
    for name in sorted(names(), key=lambda name: name == GENERAL):
        module = plugins.load(__name__, name, "dataset")
        readable = folder.is_dir() or folder.suffix.lower() in getattr(module, "FILES", ())
        if readable and hasattr(module, "recognizes") and module.recognizes(folder):
            return module.load(folder).limited(limit)
    if not folder.is_dir():
        raise DatasetError(f"the file {folder} is no dataset", "give a folder, or arrays x and y in a file of numpy's, .npz")
    what = "has no images in folders of classes" if any(folder.iterdir()) else "is empty"
    raise DatasetError(f"the dataset folder {folder} {what}", "put the images of each class in a folder of its own")


def list_datasets() -> list[dict[str, Any]]:
    """One dict per dataset: name, summary (the first line of its file)."""
    return [{"name": name, "summary": plugins.summary(__name__, name)} for name in names()]
