"""`package`: ONNX files -> a model repository that Triton or KServe serves, written from what the files say about themselves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deploykit import arguments as read
from deploykit import files
from deploykit.errors import InputError, UnknownName
from deploykit.runtime import rows
from deploykit.runtime.isolation import rehearse
from deploykit.runtime.onnx_bytes import read_model, surveyed
from deploykit.runtime.predictor import Predictor
from deploykit.serving import kserve, triton
from deploykit.serving.models import check_verdict, signature_of
from deploykit.serving.repository import Source, find

Kind = Literal["triton", "kserve"]
KINDS = ("triton", "kserve")


@dataclass(frozen=True)
class PackagedModel:
    """A model of the repository: its `files`; `max_batch_size` is 0, and `note` says why, where rows do not share runs."""

    name: str
    files: tuple[Path, ...]
    max_batch_size: int
    note: str = ""


@dataclass(frozen=True)
class Package:
    """What was written into `out`: a repository for `kind`, and for KServe one manifest for each model."""

    kind: str
    out: Path
    models: tuple[PackagedModel, ...]
    manifests: tuple[Path, ...] = ()

    def document(self) -> dict[str, object]:
        """As `--format json` prints it."""
        return {
            "for": self.kind,
            "out": str(self.out),
            "models": [
                {
                    "name": model.name,
                    "files": [str(file) for file in model.files],
                    "max_batch_size": model.max_batch_size,
                    "note": model.note,
                }
                for model in self.models
            ],
            "manifests": [str(file) for file in self.manifests],
        }


def package(
    given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    kind: str = "triton",
    out: str | os.PathLike[str] = "models",
    names: Sequence[str] = (),
    max_batch_size: int = 32,
    max_queue_delay_us: int = 0,
    instances: int = 1,
    python_backend: bool = False,
    storage: str = "pvc://models",
    allow_rejected: bool = False,
) -> Package:
    """Write a repository of the files and folders (as for `serve`) into the folder `out`.

    `max_batch_size`: rows of one run, 0 for no batching. `max_queue_delay_us`: microseconds for which a request waits for others.
    `instances`: runs of a model at a time. `python_backend`: also a variant NAME_python, which runs onnxruntime in Triton's Python
    backend. `storage`: where KServe will find the repository. Raises `InputError` for what cannot be packaged, `OutputError` where
    it cannot be written.
    """
    if kind not in KINDS:
        raise UnknownName.among("kind of package", kind, KINDS)
    sources = find([given] if isinstance(given, (str, os.PathLike)) else given, names)
    _check_names([source.name for source in sources], python_backend, kind)
    folder = Path(out)
    wish = triton.Wish(
        read.whole(max_batch_size, "max_batch_size"),
        read.whole(max_queue_delay_us, "max_queue_delay_us"),
        read.whole(instances, "instances", 1),
    )
    models: list[PackagedModel] = []
    manifests: list[Path] = []
    for source in sources:
        made, text = _one(source, folder, wish, python_backend, allow_rejected, storage if kind == "kserve" else None)
        models += made
        if text is not None:
            manifests.append(folder / f"{source.name}.yaml")
            files.write_text(manifests[-1], text)
    return Package(kind, folder, tuple(models), tuple(manifests))


def _check_names(names: list[str], python_backend: bool, kind: str) -> None:
    """Raise `InputError` for models of which one would be written over another, or would have the service of another."""
    folders = [(name, written) for name in names for written in (name, *([f"{name}_python"] if python_backend else []))]
    services = [(name, kserve.service_name(name)) for name in names] if kind == "kserve" else []
    for what, made in (("folder", folders), ("InferenceService", services)):
        owners: dict[str, str] = {}
        for name, written in made:
            if owners.setdefault(written, name) != name:
                raise InputError(
                    f"the models {owners[written]!r} and {name!r} would have one {what}, {written}",
                    "give one of them another --name",
                )


def _one(
    source: Source, folder: Path, wish: triton.Wish, python_backend: bool, allow_rejected: bool, storage: str | None
) -> tuple[list[PackagedModel], str | None]:
    newest = source.files[max(source.files)]
    for path in source.files.values():
        rehearse(path)
    with Predictor(newest, "cpu", check_finite=False) as predictor:
        check_verdict(predictor, allow_rejected)
        network = signature_of(predictor)
        text = None if storage is None else kserve.manifest(source.name, storage, predictor.contract)
        together, note = rows.together(predictor) if wish.max_batch_size > 1 else (False, "")
        made = []
        variants = [("onnxruntime", source.name), *([("python", f"{source.name}_python")] if python_backend else [])]
        for backend, name in variants:
            # Triton gives the Python backend no bfloat16 as numpy has none.
            if backend == "python" and any(tensor.datatype.name == "BF16" for tensor in (*network.inputs, *network.outputs)):
                raise InputError(
                    f"{source.name} has bfloat16, which the Python backend cannot take", "leave out --with-python-backend"
                )
            own = replace(wish, kind="KIND_CPU") if backend == "python" else wish
            written = [folder / name / "config.pbtxt"]
            files.write_text(written[0], triton.config(name, predictor, network, together, own, backend))
            if predictor.labels is not None:
                written.append(folder / name / triton.LABELS)
                files.write_text(written[-1], triton.labels_text(predictor.labels))
            for version, path in source.files.items():
                written += _copied(path, folder / name / str(version))
                if backend == "python":
                    written.append(folder / name / str(version) / "model.py")
                    files.write_text(written[-1], triton.python_model(together))
            made.append(PackagedModel(name, tuple(written), wish.max_batch_size if together else 0, note))
    return made, text


def _copied(path: Path, folder: Path) -> list[Path]:
    """The file as `model.onnx`, with the files that hold its weights."""
    data = read_model(path)
    seen, _ = surveyed(data, path)
    written = []
    for location in sorted(seen.locations):
        target = folder / location
        with files.replacing(target) as temporary:
            shutil.copyfile(path.resolve().parent / location, temporary)
        written.append(target)
    files.write_bytes(folder / "model.onnx", data)
    return [*written, folder / "model.onnx"]
