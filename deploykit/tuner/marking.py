"""The file that is written: the one that was chosen, with what it was tuned for in its contract."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import onnx

from deploykit import onnx_file
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output, Tuned
from deploykit.tuner.candidates import Task
from deploykit.tuner.search import Found


def marked(file: Path, given: onnx.ModelProto, tuned: Tuned) -> onnx.ModelProto:
    """The file that was chosen, with what it was tuned for in its contract, where there can be one."""
    model = onnx_file.read_whole(file)[0]
    contract = contract_of(given)
    if contract is not None:
        onnx_file.set_contract(model, replace(contract, tuned=tuned))
    return model


def contract_of(model: onnx.ModelProto) -> Contract | None:
    """That of the file, or the least that can say what it was tuned for, if it takes arrays of samples; else `None`."""
    contract = onnx_file.get_contract(model)
    if contract is not None:
        return contract
    rules: dict[str, ImageInput | ArrayInput] = {}
    for entry in graph_inputs.described(model.graph):
        if entry.dtype is None or not entry.axes:
            return None
        shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in entry.axes[1:])
        rules[entry.name] = ArrayInput(shape, entry.dtype.name)
    return Contract(next(iter(rules.values())), Output(), inputs=rules if len(rules) > 1 else {}) if rules else None


def tuned_for(task: Task, found: Found, source: str, device: str) -> Tuned:
    """What the file is to say of itself, rounded so that it is short."""
    candidate, timing, judged = found.chosen.candidate, found.chosen.timing, found.chosen.judged
    figures: dict[str, Any] = {"name": candidate.name}
    if timing is not None:
        figures |= {key: float(f"{getattr(timing, key):.4g}") for key in ("median_ms", "ratio", "low", "high")}
    if judged is not None:
        values = {key: getattr(judged, key) for key in ("samples", "agreement", "agreement_low", "drop", "drop_high")}
        figures |= {key: float(f"{value:.4g}") for key, value in values.items() if value is not None}
    return Tuned(
        cast(Any, candidate.engine), candidate.threads, candidate.precision, candidate.batch, "cpu" if device == "cpu" else "cuda",
        dict(candidate.options), task.instructions, source, figures,
    )  # fmt: skip
