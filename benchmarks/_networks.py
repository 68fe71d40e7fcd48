"""A network of a corpus: exported by deploykit, and the file, also a rejected one, held against PyTorch in plain onnxruntime.

Nothing of deploykit takes part in that second half: it says whether deploykit's word was right.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from _corpora import Row, causes
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import deploykit
from deploykit.errors import DeploykitError
from deploykit.reports import Column, Report, Table

Size = tuple[int, ...]
SAME, REFUSED = "right, called same", "right, refused"
WRONG_SAME, WRONG_REFUSED = "wrong, called same", "wrong, refused"
IMPOSSIBLE, UNPROVEN, ONLY_OWN = "plain torch fails too", "nothing to compare", "takes its own size only"
USUAL = (SAME, WRONG_REFUSED, IMPOSSIBLE, ONLY_OWN)
TOLERANCE = 1e-4  # of the largest value of an output
NOISE = 20.0  # times PyTorch's own error against float64, where that is more
COLUMNS = (
    Column("name", "network"),
    Column("group", "family", minor=True),
    Column("outcome", "outcome"),
    Column("word", "verdict"),
    Column("error", "error", "number"),
    Column("seconds", "export", "seconds"),
    Column("reason", "reason"),
)


@dataclass(frozen=True)
class Case:
    """A network and what it takes: `inputs(batch, size)` gives values by parameter name, `own` is what it is exported with.

    `others`: batches and sizes that it is held against PyTorch at; those that PyTorch itself refuses do not count.
    """

    name: str
    group: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int, Size], Mapping[str, Tensor]]
    own: tuple[int, Size]
    others: Sequence[tuple[int, Size]]
    dynamic: Sequence[str] = ("batch",)

    def network(self) -> nn.Module:
        """As a user would hand it over: in eval mode, with its `example_inputs`."""
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = self.build().eval()
        module.example_inputs = dict(self.inputs(*self.own))
        return module


def ask(case: Case, target: str) -> Row:
    """The row of one network. `target`: the ``module:callable`` that builds it from the argument `name`."""
    module = case.network()
    row: Row = {"dynamic": ",".join(case.dynamic) or "none", "parameters": _size(module)}
    trials = [trial for trial in case.others if _answer(module, case.inputs(*trial)) is not None]
    if not trials or _answer(module, case.inputs(*case.own)) is None:
        return {**row, "outcome": ONLY_OWN, "reason": "PyTorch refuses all other sizes that are tried"}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        row |= _exported(case, target, out)
        files = sorted(Path(folder).glob("*.onnx"))
        if not files:
            failure = _plainly(module, case, out)
            row["plain"] = failure or "exported"
            if failure:
                return {**row, "outcome": IMPOSSIBLE}
            files = [out]
        right, error, why = compared(files[0], module, [case.inputs(*trial) for trial in trials])
    row |= {
        "error": error if math.isfinite(error) else None,
        "compared": why,
        "trials": [f"{batch}:{'x'.join(map(str, size))}" for batch, size in trials],
    }
    if right is None:
        return {**row, "outcome": UNPROVEN, "reason": f"{row['word']}: {why}"}
    same = row["word"] == "same"
    outcome = (SAME if same else REFUSED) if right else (WRONG_SAME if same else WRONG_REFUSED)
    return {**row, "outcome": outcome, "reason": row["reason"] or ("" if right else why)}


def _exported(case: Case, target: str, out: Path) -> Row:
    """Deploykit's own word, its reason and its seconds."""
    began = time.perf_counter()
    try:
        found = deploykit.export(target, arguments={"name": case.name}, untrained=True, dynamic=tuple(case.dynamic), out=out)
    except DeploykitError as error:
        word, reason, notes = "refused", f"{type(error).__name__}: {error}", []
    except Exception as error:  # what the command line would call an internal error
        word, reason, notes = "internal error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", []
    else:
        word, notes = found.verdict.verdict, list(found.verdict.notes)
        reason = "; ".join(f"{check.name}: {check.detail}" for check in found.verdict.checks if not check.passed)
    return {"word": word, "reason": reason, "notes": notes, "seconds": round(time.perf_counter() - began, 1)}


def _plainly(module: nn.Module, case: Case, out: Path) -> str:
    """torch.onnx.export and nothing else; why it gives no file with the axes open that were asked for, or nothing."""
    examples = case.inputs(*case.own)
    places = dict(_place(entry) for entry in case.dynamic)
    shapes = {name: {axis: torch.export.Dim.DYNAMIC for axis in places if axis < value.ndim} for name, value in examples.items()}
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(module, (), kwargs=dict(examples), f=out, dynamo=True, dynamic_shapes=shapes, external_data=False,
                              verbose=False)  # fmt: skip
        fixed = [entry for entry in _session(out).get_inputs() if any(isinstance(entry.shape[axis], int) for axis in places
                 if axis < len(entry.shape))]  # fmt: skip
    except Exception as error:  # torch raises whatever it likes
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return f"axes of {fixed[0].name} became fixed: {fixed[0].shape}" if fixed else ""


def _place(entry: str) -> tuple[int, str]:
    name, _, axis = entry.partition("=")
    return (int(axis) if axis else {"batch": 0, "height": 2, "width": 3}[name]), name


def compared(file: Path, module: nn.Module, feeds: Sequence[Mapping[str, Tensor]]) -> tuple[bool | None, float, str]:
    """Whether onnxruntime gives what PyTorch gives on all of `feeds`; the largest error, relative to the output's scale; why not.

    `None` where the outputs are all zero or not finite, so that nothing can be told.
    """
    largest, evidence = 0.0, False
    try:
        session = _session(file)
    except Exception as error:  # onnxruntime's exceptions have no common base
        return False, float("inf"), f"onnxruntime: {' '.join(str(error).split())[:200]}"
    for feed in feeds:
        shown = ", ".join("x".join(map(str, value.shape)) for value in feed.values())
        wanted = [value.detach().numpy() for value in _answer(module, feed) or []]
        try:
            found = session.run(None, _by_name(session, feed))
        except Exception as error:
            return False, float("inf"), f"at {shown} onnxruntime stops: {' '.join(str(error).split())[:200]}"
        if [value.shape for value in found] != [value.shape for value in wanted]:
            return False, float("inf"), f"at {shown} the shapes are {[v.shape for v in found]}, not {[v.shape for v in wanted]}"
        error = max(map(_apart, found, wanted))
        if error > TOLERANCE and error > NOISE * _own_error(module, feed, wanted):
            return False, error, f"at {shown} the outputs are {error:.1e} of their scale apart"
        largest = max(largest, error)
        evidence |= any(bool(np.any(value)) and bool(np.isfinite(value).any()) for value in wanted)
    return (True, largest, "") if evidence else (None, largest, "all outputs are zero or not finite")


def _session(file: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _by_name(session: onnxruntime.InferenceSession, feed: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    names = [entry.name for entry in session.get_inputs()]
    if not set(names) <= set(feed):
        return dict(zip(names, (value.numpy() for value in feed.values()), strict=True))
    return {name: feed[name].numpy() for name in names}


def _answer(module: nn.Module, feed: Mapping[str, Tensor]) -> list[Tensor] | None:
    """The tensors that PyTorch gives, `None` where it refuses the input."""
    try:
        with torch.no_grad():
            return [leaf for leaf in pytree.tree_leaves(module(**feed)) if isinstance(leaf, Tensor)]
    except Exception:  # whatever a network raises of a size that it does not take
        return None


def _apart(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The largest difference, of the largest finite value; infinite where a NaN or an infinity has no counterpart."""
    if not wanted.size:
        return 0.0
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(wanted[finite]).max()) or 1.0
    return float(np.abs(found[finite].astype(np.float64) - wanted[finite]).max()) / scale


def _own_error(module: nn.Module, feed: Mapping[str, Tensor], wanted: Sequence[NDArray[Any]]) -> float:
    """How far PyTorch in float32 is from itself in float64; 0 where it does not run in float64."""
    try:
        module.double()
        wide = _answer(module, {name: value.double() if value.is_floating_point() else value for name, value in feed.items()})
    finally:
        module.float()
    if wide is None or len(wide) != len(wanted):
        return 0.0
    return max((_apart(own, value.numpy()) for own, value in zip(wanted, wide, strict=True)), default=0.0)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def liven(module: nn.Module) -> nn.Module:
    """Weights that an initializer made all alike become different ones, and BatchNorm gets statistics, as after training.

    Fresh heads of zeros, layer scales of 1e-6 and gates that are shut would hide all that lies before them.
    """
    for parameter in _constant(module):
        value = float(parameter.flatten()[0])
        with torch.no_grad():
            if abs(value) < 0.01:
                parameter.copy_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.mul_(torch.empty_like(parameter).uniform_(0.8, 1.2))
    for child in module.modules():
        if isinstance(getattr(child, "running_var", None), Tensor):
            child.running_mean.normal_(0, 0.1)
            child.running_var.uniform_(0.5, 1.5)
    return module


def _constant(module: nn.Module) -> Iterator[nn.Parameter]:
    for parameter in module.parameters():
        if parameter.is_floating_point() and parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
            yield parameter


def report(title: str, rows: Sequence[Row]) -> Report:
    """How often each outcome came, what is behind those that should not be, and every row."""
    counts = {outcome: sum(row["outcome"] == outcome for row in rows) for outcome in dict.fromkeys(row["outcome"] for row in rows)}
    judged = counts.get(SAME, 0) + counts.get(REFUSED, 0)
    wrong, refused = counts.get(WRONG_SAME, 0), counts.get(REFUSED, 0)
    headline = f"{wrong} wrong files called same; {refused} of {judged} right files refused; {len({r.get('group') for r in rows})} families"
    good = not wrong and refused <= 0.02 * judged and not counts.get("crash") and not counts.get("error")
    summary = Table(
        "Outcomes",
        (Column("outcome", "outcome"), Column("count", "rows", "count")),
        [{"outcome": k, "count": v} for k, v in counts.items()],
    )
    shown = [{**row, "reason": row.get("reason", "")[:160]} for row in rows]
    return Report(title, list(rows), headline, good, tables=[summary, causes(rows, USUAL), Table("Every network", COLUMNS, shown)])
