"""A file's session and what its contract says it was tuned for -> how a predictor runs it, and what of that is not done here.

The answers are the same whether it does or not: only the time differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from deploykit.errors import DeploykitError, ModelFileError
from deploykit.runtime import openvino
from deploykit.runtime.contract.tuned import Tuned
from deploykit.runtime.cores import cores
from deploykit.runtime.instructions import instruction_sets
from deploykit.runtime.session import Level, OpenSession, SessionSettings, open_session

MARK = b'"tuned":{'  # in the bytes of a file that has such a section


@dataclass(frozen=True)
class Followed:
    """How the file is run. `opened`: its session. `run`: what answers in its place, elsewhere. `note`: what was not done.

    `bound`: buffers stay on the device, by IO binding; `graph`: and a recorded CUDA graph is replayed.
    """

    opened: OpenSession
    engine: str = "onnxruntime"
    run: Callable[..., Any] | None = None
    note: str = ""
    bound: bool = False
    graph: bool = False


def follow(
    tuned: Tuned,
    opened: OpenSession,
    data: bytes,
    name: str,
    path: Path | None,
    settings: SessionSettings,
    own_runner: bool = False,
) -> Followed:
    """`opened`: a session of the file, which may be thrown away. `own_runner`: the session itself must answer.

    `path`: of a file whose weights lie beside it, else its bytes in `data` are all. Threads that the caller chose are kept. Raises
    nothing but what opening the session raises.
    """
    folder = None if path is None else path.resolve().parent
    if opened.device != tuned.device:
        again = _reopened(data, name, folder, settings)
        return Followed(again, note=f"it was tuned for {tuned.device} and runs on {again.device}")
    if tuned.device == "cuda":
        return _on_cuda(tuned, opened, data, name, folder, settings, own_runner)
    notes = _missing(tuned)
    usable = cores().usable
    threads = settings.threads or (tuned.threads if tuned.threads <= usable else None)
    if settings.threads is None and threads is None:
        notes.append(f"it was tuned for {tuned.threads} threads, and this process may use {usable}")
    if tuned.engine == "openvino" and not own_runner:
        try:
            precision, rows = cast(Any, tuned.options.get("precision", "f32")), tuned.options.get("fixed_batch")
            model = openvino.OpenVinoModel(path or data, name, threads, precision, None if rows is None else int(rows))
            _check_names(model, opened, name)
            return Followed(opened, "openvino", model.run, "; ".join(notes))
        except DeploykitError as error:
            problem = "which is not installed" if not openvino.installed() else f"which cannot run it ({error.problem})"
            notes.insert(0, f"it was tuned for OpenVINO, {problem}: it runs on onnxruntime, with the same answers")
    level = cast(Level, tuned.options.get("level", "all"))
    return Followed(_reopened(data, name, folder, replace(settings, threads=threads, level=level)), note="; ".join(notes))


def _check_names(model: openvino.OpenVinoModel, opened: OpenSession, name: str) -> None:
    """Raise `ModelFileError` where OpenVINO has lost the name of an input: that of a Dropout has the name of its output there."""
    known = {each for each, _, _ in model.inputs}
    lost = [value.name for value in opened.session.get_inputs() if value.name not in known]
    if lost:
        raise ModelFileError(f"OpenVINO calls the input {lost[0]!r:.80} of {name} otherwise", "choose another engine")


def _on_cuda(
    tuned: Tuned, opened: OpenSession, data: bytes, name: str, folder: Path | None, settings: SessionSettings, own_runner: bool
) -> Followed:
    """With its settings of CUDA; without them where they cannot be had. The caller's own way of running is kept."""
    of_runs = ("io_binding", "cuda_graph")
    options = {name: value for name, value in tuned.options.items() if not (own_runner and name in of_runs)}
    wanted = replace(settings, device=f"cuda:{opened.number}").with_options(options)
    try:
        bound, graph = any(option in options for option in of_runs), "cuda_graph" in options
        return Followed(_reopened(data, name, folder, wanted), bound=bound, graph=graph)
    except DeploykitError as error:
        missing = f"it was tuned with {_listed(options)}, which cannot be had here ({error.problem})"
        note = f"{missing}: it runs without, with the same answers"
        return Followed(_reopened(data, name, folder, settings), note=note)


def _listed(options: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(options.items())) or "its settings"


def _reopened(data: bytes, name: str, folder: Path | None, settings: SessionSettings) -> OpenSession:
    return open_session(data, name, folder, settings)


def _missing(tuned: Tuned) -> list[str]:
    """That the machine lacks what the file was tuned with, where both say what they have."""
    here = instruction_sets()
    lacks = [name for name in tuned.instructions if name not in here] if here else []
    return [f"it was tuned on a machine with {', '.join(lacks)}, which this one lacks: tune it again here"] if lacks else []
