"""`Predictor`: a deployed file, ready to answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np
import onnxruntime

from deploykit import arguments as read
from deploykit.errors import ContractError, DeploykitError, InputError, ModelFileError, kind_of
from deploykit.runtime import bfloat16, open_axes
from deploykit.runtime import contract as contracts
from deploykit.runtime.answering import RunWithContract, answer_all, answer_batch, is_plain
from deploykit.runtime.checks import check_contract, check_value
from deploykit.runtime.contract import Contract
from deploykit.runtime.following import MARK, Followed, follow
from deploykit.runtime.images import MAX_PIXELS
from deploykit.runtime.onnx_bytes import read_model, surveyed
from deploykit.runtime.paths import each
from deploykit.runtime.prediction import Prediction
from deploykit.runtime.reading import shown
from deploykit.runtime.session import OpenSession, SessionSettings, TensorSpec, open_session, reason, specs
from deploykit.runtime.steadiness import is_steady

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from deploykit.runtime.stopping import Stop
    from deploykit.runtime.tasks import RunOfTask

MAX_BATCH = 65_536

_OWN_INPUTS = "give inputs of your own: warm_up(inputs=...)"

Run = Callable[[list[str], dict[str, Any]], Any]  # names of outputs and arrays by input name -> the outputs
RunWithOptions = Callable[[list[str], dict[str, Any], Any], Any]  # and options of onnxruntime, or `None`


class Predictor:
    """An ONNX file in a session of its own, driven by the contract inside the file.

    `model`: a path, or the bytes of a file. `device`: "auto" (CUDA if it really works, else the CPU; `device_note` says why, and
    `cuda_lost` whether NVIDIA's driver is there all the same), "cpu", "cuda" or "cuda:1" (`DeviceUnavailable` unless it is really
    used). `threads`: within one run, `None` for as many as help. `spinning`: wait a moment for the next run in a busy loop
    (faster where runs follow each other). `warm_up`: this many runs on zeros before the first answer. `io_binding`: keep input
    and output buffers on the device, per input shape. `cuda_graph`: replay a recorded CUDA graph per input shape. `tf32`: let
    CUDA round matrix products. `check_finite`: refuse inputs with NaN or infinities. `max_pixels`: the largest image that will
    be unpacked. `channels`: the order of the colours in arrays that are images: "bgr" for frames of OpenCV, which no predictor can
    tell from others; files and Pillow images say it themselves.

    Raises `ModelFileError` for a file that is missing, damaged or cannot be run, `ContractError` for a contract that is forged,
    newer or at odds with the graph. A file without a contract can be `run`.

    A file that `deploykit tune` made says how it runs best, and is run so: `engine` is "onnxruntime" or "openvino", and
    `engine_note` says what of it cannot be followed here; the answers are the same. `threads` that are given are kept.
    `is_steady`: as far as the graph tells, there is as much to compute for every input of the same shapes.

    Any number of threads may share one predictor. The file is read once; it may be replaced at any time.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        device: str = "auto",
        *,
        threads: int | None = None,
        spinning: bool = True,
        warm_up: int = 0,
        io_binding: bool = False,
        cuda_graph: bool = False,
        tf32: bool = False,
        check_finite: bool = True,
        max_pixels: int = MAX_PIXELS,
        channels: Literal["rgb", "bgr"] = "rgb",
    ) -> None:
        if not isinstance(model, (str, os.PathLike, bytes)):
            raise InputError(f"a model cannot be {kind_of(model)}", "give the path of an ONNX file, or its bytes")
        if channels not in ("rgb", "bgr"):
            raise InputError(f"the order of colours cannot be {channels!r:.80}", 'choose "rgb", or "bgr" for frames of OpenCV')
        data, path = (model, None) if isinstance(model, bytes) else (read_model(model), Path(model))
        self.name = "the model" if path is None else shown(path)
        seen, outside = surveyed(data, path)
        beside = path if outside else None
        settings = SessionSettings(
            device, read.whole(threads, "threads", 1, 1024), read.flag(spinning, "spinning"), read.flag(tf32, "tf32"),
            read.flag(cuda_graph, "cuda_graph"),
        )  # fmt: skip
        max_pixels, warm_up = read.whole(max_pixels, "max_pixels", 1, 1 << 62), read.whole(warm_up, "warm_up")
        check_finite, io_binding = read.flag(check_finite, "check_finite"), read.flag(io_binding, "io_binding")
        folder = None if path is None else path.resolve().parent
        opened = open_session(data, self.name, folder, replace(settings, level="disabled") if MARK in data else settings)
        self.contract: Contract | None = _contract_of(opened.session, self.name)
        followed = self._followed(opened, data, beside, settings, io_binding or cuda_graph)
        opened, self.engine, self.engine_note = followed.opened, followed.engine, followed.note
        self._session: onnxruntime.InferenceSession | None = opened.session
        self.device = opened.device
        self.device_note = opened.note
        self.cuda_lost = opened.cuda_lost
        self.cpu_nodes = opened.cpu_nodes
        self.providers: tuple[str, ...] = tuple(opened.session.get_providers())
        self.inputs: tuple[TensorSpec, ...] = specs(opened.session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] = specs(opened.session.get_outputs())
        self.is_steady = is_steady(seen.operators, [spec.type for spec in self.inputs])
        if self.contract is not None:
            check_contract(self.contract, self.inputs, self.outputs)
        self._session_run: RunWithOptions
        self._check_finite = check_finite
        self._max_pixels = max_pixels
        self._channels = channels
        self._prepare_run(opened.session)
        in_bits = self._session_run != opened.session.run  # bfloat16, which has no array to be bound
        if (io_binding or cuda_graph or followed.bound) and not in_bits:
            from deploykit.runtime.binding import BoundRunner

            self._session_run = BoundRunner(opened.session, opened.device, opened.number, cuda_graph or followed.graph).run
        elif followed.run is not None:
            self._session_run = followed.run
        self._tell(opened.cuda_lost)
        if warm_up:
            self.warm_up(warm_up)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, in the order of the output; `None` where the file names none."""
        return None if self.contract is None else self.contract.output.labels

    @property
    def axes(self) -> Mapping[str, open_axes.Axes]:
        """The axes of each input: a fixed size, the name of an open axis, or `None` for one without a name."""
        return self._axes

    def predict(self, source: Any, top: int = 1) -> Prediction:
        """The answer for one input, with the `top` best labels.

        `source`: for networks that take images a path, an open file or the bytes of an image file, a Pillow image or a uint8 array
        (height, width) or (height, width, 3 or 4); for others an array without the batch, or a .npy file by its path or open; for
        several inputs a mapping from their names to such, or an .npz file of one sample. The answer is that of the file's task: a
        `Classification`, `MultiLabel`, `Segmentation`, `Detections`, `Embedding` or `Regression`, or a plain `Prediction` with
        `values`. Raises `ImageError`, `InputError`, and `ContractError` for a file without a contract.
        """
        network = self._require_contract()
        top = read.whole(top, "top", 1)
        sample = network.prepare(source, self._max_pixels, self._channels)
        found = answer_batch([sample], network, top)[0]
        if found.error is not None:
            raise ModelFileError(f"{self.name} gave no answer: {found.error}")
        return found.at(_path_of(source))

    def predict_many(
        self, sources: str | os.PathLike[str] | Iterable[Any], batch_size: int = 64, top: int = 1, *, workers: int | None = None
    ) -> Iterator[Prediction]:
        """Answers for any number of inputs, lazily and in order; threads decode ahead, memory stays bounded.

        `sources`: a list (or anything that can be iterated) of what `predict` takes, with one answer per entry; an array with a
        batch; or one path: a file, a folder (its images, subfolders too), a pattern such as "digits/*.png". Raises `InputError`
        for a single image, which is not many. `workers`: threads that decode, `None` for as many as there are cores.

        An input that cannot be read becomes a `Prediction` with `error` and spoils nothing else.
        """
        network = self._require_contract()
        top = read.whole(top, "top", 1)
        batch_size, workers = read.whole(batch_size, "batch_size", 1, MAX_BATCH), read.whole(workers, "workers", 1, 1024)
        from deploykit.runtime.stream import stream

        several = each(sources, network.contract)
        return stream(
            several if isinstance(network, RunWithContract) else network.apart(several),
            prepare=lambda source: network.prepare(source, self._max_pixels, self._channels),
            answer=lambda samples: answer_all(samples, network, top, batch_size),
            batch_size=batch_size,
            heavy=network.contract.preprocessing_in_graph,
            workers=workers,
        )

    def answering(self, run: Run) -> RunWithContract | RunOfTask:
        """How samples become answers here, with `run` in the place of the session: output names and arrays by input -> outputs.

        For whoever puts the samples of several callers into one run. Raises `ContractError` for a file without a contract,
        `InputError` for one whose contract describes one of several inputs.
        """
        network = self._require_contract()
        if not isinstance(network, RunWithContract):
            return replace(network, run=run)
        first, name = self._first, self.inputs[0].name
        return replace(network, run=lambda batch: run(first, {name: batch})[0])

    def run(self, inputs: NDArray[Any] | Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """The first output, raw. `inputs`: an array with the batch, or one per input name; a list of arrays for a sequence.

        Raises `InputError` unless dtype, rank and sizes are the graph's and, with `check_finite`, every value is finite. An axis
        that may have any size may have 0, such as that of an empty cache; only with a contract, which says that the first axis
        is the batch, there must be at least one sample. An array need not be contiguous.
        """
        spec = self._spec
        if (
            spec is not None
            and type(inputs) is np.ndarray
            and inputs.dtype == spec.dtype
            and len(inputs.shape) == self._rank
            and inputs.size
            and (not self._check_finite or spec.dtype.kind != "f" or np.isfinite(inputs).all())
        ):
            shape = inputs.shape
            for axis, size in self._sizes:
                if shape[axis] != size:
                    break
            else:
                return self._run(self._first, {spec.name: inputs})[0]
        return self._run(self._first, self._checked(inputs))[0]

    def run_all(self, inputs: NDArray[Any] | Mapping[str, NDArray[Any]], stop: Stop | None = None) -> dict[str, Any]:
        """Every output by name, raw; `inputs` as for `run`. `stop`: ends the run from another thread (OpenVINO's go on)."""
        names = [spec.name for spec in self.outputs]
        return dict(zip(names, self._run(names, self._checked(inputs), stop), strict=True))

    def warm_up(self, runs: int = 1, batch: int = 1, inputs: NDArray[Any] | Mapping[str, NDArray[Any]] | None = None) -> None:
        """Run `runs` times, on zeros or on `inputs` (as for `run`): the first run of a session is slow, on CUDA of every shape.

        Open axes of the zeros have the sizes that the network was exported with, else those of `open_axes`. Raises `InputError`
        where the network takes no zeros of these sizes: then give `inputs`.
        """
        runs, batch = read.whole(runs, "runs"), read.whole(batch, "batch", 1)
        if runs == 0:
            return
        feeds = self._zeros(batch) if inputs is None else self._checked(inputs)
        for _ in range(runs):
            try:
                self._run(self._first, feeds)
            except ModelFileError as error:
                if inputs is not None:
                    raise
                shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
                raise InputError(f"{error.problem}, warmed up on zeros: {shapes}", _OWN_INPUTS) from error

    def close(self) -> None:
        """Let go of the session and its memory; runs that are under way end undisturbed. Closing twice is fine."""
        self._session = None
        self._session_run = _closed

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._session is None else self.device
        return f"<Predictor {self.name} on {state}>"

    def _followed(
        self, opened: OpenSession, data: bytes, path: Path | None, settings: SessionSettings, own_runner: bool
    ) -> Followed:
        """The session as the file was tuned, if it was; of others that look like it, as it was asked for."""
        if MARK not in data:
            return Followed(opened)
        folder = None if path is None else path.resolve().parent
        tuned = None if self.contract is None else self.contract.tuned
        if tuned is None:
            return Followed(open_session(data, self.name, folder, settings))
        return follow(tuned, opened, data, self.name, path, settings, own_runner)

    def _prepare_run(self, session: onnxruntime.InferenceSession) -> None:
        """All that the shortest way through `run` looks at, worked out once."""
        simple = len(self.inputs) == 1 and self.inputs[0].dtype is not None and self.inputs[0].shape is not None
        self._spec = self.inputs[0] if simple else None
        shape = self._spec.shape or () if self._spec is not None else ()
        self._rank = len(shape)
        self._sizes = tuple((axis, size) for axis, size in enumerate(shape) if size is not None)
        self._first = [self.outputs[0].name]
        self._axes = open_axes.of_session(session.get_inputs())
        self._session_run = session.run
        if any(spec.type == bfloat16.TYPE for spec in (*self.inputs, *self.outputs)):
            self._session_run = bfloat16.BitsRunner(session).run
        contract = self.contract
        self._network: RunWithContract | RunOfTask | None = None
        if contract is not None and (contract.inputs or not is_plain(contract)):
            from deploykit.runtime.tasks import RunOfTask  # what most files have no need of

            self._network = RunOfTask(self._run, self.inputs, self.outputs, contract)
        elif contract is not None and len(self.inputs) == 1:
            self._network = RunWithContract(self._run_batch, self.inputs[0], self.outputs[0], contract)

    def _run(self, names: list[str], feeds: dict[str, Any], stop: Stop | None = None) -> list[Any]:
        try:
            return self._session_run(names, feeds, None if stop is None else stop.options)
        except DeploykitError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise ModelFileError(f"{self.name} failed to run: {reason(error)}") from error

    def _run_batch(self, batch: NDArray[Any]) -> NDArray[Any]:
        """For inputs that were made, and so need no second look."""
        return self._run(self._first, {self.inputs[0].name: batch})[0]

    def _zeros(self, batch: int) -> dict[str, Any]:
        """An array of zeros for each input, by name. Raises `InputError` for an input that takes no array of numbers."""
        for spec in self.inputs:
            if spec.dtype is None:
                raise InputError(f"{self.name} cannot be warmed up: there are no zeros for the input {spec}", _OWN_INPUTS)
        shapes = open_axes.sizes(self._axes, batch, contract=self.contract)
        return {spec.name: np.zeros(shapes[spec.name], spec.dtype) for spec in self.inputs}

    def _tell(self, cuda_lost: bool) -> None:
        """A GPU that is there and not used is worth a warning; that there is none, a remark."""
        if not self.device_note and not self.cpu_nodes and not self.engine_note:
            return
        import logging  # costs an application that does not log a few milliseconds of its start

        log = logging.getLogger("deploykit.runtime")
        if self.device_note:
            log.log(logging.WARNING if cuda_lost else logging.INFO, "%s: %s", self.name, self.device_note)
        if self.engine_note:
            log.warning("%s: %s", self.name, self.engine_note)
        if self.cpu_nodes:
            shown_nodes = ", ".join(f"{name or '?'} ({kind})" for name, kind in self.cpu_nodes[:5])
            log.info("%s: %d nodes run on the CPU: %s", self.name, len(self.cpu_nodes), shown_nodes)

    def _checked(self, inputs: object) -> dict[str, Any]:
        if not isinstance(inputs, Mapping):
            if len(self.inputs) != 1:
                names = ", ".join(str(spec) for spec in self.inputs)
                raise InputError(f"{self.name} has {len(self.inputs)} inputs: {names}", "give a dict of arrays by name")
            inputs = {self.inputs[0].name: inputs}
        known = {spec.name: spec for spec in self.inputs}
        for name in inputs:
            if name not in known:
                raise InputError(f"{self.name} has no input {name!r:.80}", f"its inputs are: {', '.join(known)}")
        for name, spec in known.items():
            if name not in inputs:
                raise InputError(f"{self.name} needs the input {spec}", "give a dict of arrays by name")
            check_value(inputs[name], spec, self._check_finite, batched=self.contract is not None)
        return dict(inputs)

    def _require_contract(self) -> RunWithContract | RunOfTask:
        if self._session is None:
            _closed([], {})
        if self._network is None:
            inputs = ", ".join(str(spec) for spec in self.inputs)
            if self.contract is not None:
                raise InputError(f"{self.name} takes {len(self.inputs)} inputs: {inputs}", "give a dict of arrays to run()")
            raise ContractError(
                f"{self.name} has no contract: nothing says how an image becomes its input ({inputs}) or what the output means",
                "give arrays to run(), or export the network with `deploykit export`",
            )
        return self._network


def _closed(_names: list[str], _feeds: dict[str, Any], _options: Any = None) -> NoReturn:
    raise InputError("this predictor is closed", "make a new one")


def _contract_of(session: onnxruntime.InferenceSession, name: str) -> Contract | None:
    text = session.get_modelmeta().custom_metadata_map.get(contracts.KEY)
    if text is None:
        return None
    try:
        return contracts.loads(text)
    except ContractError as error:
        raise ContractError(f"{name}: {error.problem}", error.hint) from error


def _path_of(source: Any) -> str | None:
    return os.fsdecode(source) if isinstance(source, (str, os.PathLike)) else None
