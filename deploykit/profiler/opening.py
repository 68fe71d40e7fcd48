"""`read`: a TARGET becomes an `Opened`: a network, the ONNX file it turns into, and one array per input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from deploykit import backends as engines
from deploykit import exporter, files, onnx_file
from deploykit.errors import ExportError, InputError
from deploykit.network.target import Network
from deploykit.profiler import subjects
from deploykit.profiler.onnx import inputs as onnx_inputs
from deploykit.profiler.options import Options
from deploykit.profiler.subjects import Subject
from deploykit.progress import Progress


@dataclass(frozen=True)
class Opened:
    """A target that was read: a network, a file, or a network with the file it became.

    `untimed`: why there are no values to run it on, so that `arrays` only have the right shapes; "" where there are.
    """

    subject: Subject
    arrays: list[NDArray[Any]]
    network: Network | None
    file: Path | None
    note: str = ""
    untimed: str = ""

    def on(self, backend: str, alone: bool) -> Subject | None:
        """The subject to time on a backend; `None` if there is nothing that it could run."""
        label = backend if alone else f"{self.subject.target} on {backend}"
        if engines.source_of(backend) == "onnx":
            return None if self.file is None else Subject(str(self.file), backend, label=label)
        return None if self.network is None else replace(self.subject, backend=backend, label=label)


def read(subject: Subject, options: Options, folder: Path) -> Opened:
    """Resolve, export if ONNX Runtime is to time it (into `folder`), and make inputs.

    Raises what resolving and reading raise; a network that cannot be exported is opened without a file and says so.
    """
    if subject.is_file:
        _refuse_beside_inputs(subject, options)
        file = Path(subject.target)
        wanted = partial(subjects.arrays_of_file, file, options.batch, subject.input_shapes, given=subject.inputs)
        try:
            return Opened(subject, wanted(values=options.latency), None, file)
        except onnx_inputs.Unmade as error:
            return Opened(subject, wanted(values=False), None, file, untimed=error.problem)
    # Counting needs no weights: a network whose values nobody asked for is built without memory, where its code allows that.
    network = _weightless(subject) if subject.untrained and not options.latency else None
    network = network or subjects.network(subject)
    arrays = subjects.arrays_of_network(network, options.batch, values=options.latency)
    if not options.latency or "onnxruntime" not in options.backends:
        return Opened(subject, arrays, network, None)
    try:
        return Opened(subject, arrays, network, _exported(network, arrays, folder, options.progress))
    except ExportError as error:
        return Opened(subject, arrays, network, None, f"not timed in ONNX Runtime: {error}")


def _refuse_beside_inputs(subject: Subject, options: Options) -> None:
    """Raise `InputError` for options that say again, or otherwise, what the arrays for a file's inputs say."""
    given = {"--batch": options.batch, "--input-shape": subject.input_shapes}
    option = next((name for name, value in given.items() if value is not None), None)
    if subject.inputs is not None and option is not None:
        raise InputError(
            f"the values in --inputs have their sizes; {option} does not go with them", f"leave out {option}, or --inputs"
        )
    if subject.input_dtypes is not None:
        raise InputError(f"{subject.target} has the types of its inputs inside; --input-dtype does not go with it", "leave it out")


def _weightless(subject: Subject) -> Network | None:
    try:
        with torch.device("meta"):
            return subjects.network(subject)
    except (RuntimeError, NotImplementedError, InputError):
        return None


def _exported(network: Network, arrays: Sequence[NDArray[Any]], folder: Path, progress: Progress) -> Path:
    """The export that lies beside the checkpoint, if it is of these weights and this input; else one of our own."""
    there = exporter.default_file(network)
    if network.checkpoint is not None and there.is_file() and _is_of(there, network, arrays):
        return there
    progress.start(f"exporting {network.name}")
    file = folder / "model.onnx"
    onnx_file.write(exporter.to_onnx(network), file)
    return file


def _is_of(file: Path, network: Network, arrays: Sequence[NDArray[Any]]) -> bool:
    """Whether a file was exported from these weights and takes these inputs."""
    try:
        model = onnx_file.read(file)
        contract = onnx_file.get_contract(model)
        inputs = onnx_inputs.fixed(model, arrays[0].shape[0], [array.shape[1:] for array in arrays])
    except InputError:
        return False
    if [(entry.shape, entry.dtype) for entry in inputs] != [(array.shape, array.dtype) for array in arrays]:
        return False
    digest = contract.provenance.get("checkpoint_sha256") if contract else None
    return digest is not None and network.checkpoint is not None and digest == files.sha256(network.checkpoint)
