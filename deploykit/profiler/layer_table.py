"""`LayerTable`, its rows (`Layer`) and their sums (`Totals`): the counts and times of one network or file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One row: one call of one module, or what a container runs between its children (`own`).

    `path`: the module's path, ``fc@1`` for its second call, "" for the network itself. Shapes include the batch and are
    those of the first tensor; `None` where there is none. `params`: elements that no earlier row has counted, so shared
    weights appear once. `ops`: under the report's convention. `called` is false for a module that holds parameters and
    was never called. Times are per run of the whole network, in ms; `None`: not measured, or not to be told apart.
    """

    path: str
    type: str
    input_shape: Shape | None
    output_shape: Shape | None
    kernel: Shape | None = None
    stride: Shape | None = None
    padding: Shape | str | None = None
    params: int = 0
    ops: int = 0
    macs: int = 0
    own: bool = False
    called: bool = True
    onnx_ops: int | None = None
    torch_ms: float | None = None
    onnxruntime_ms: float | None = None

    @property
    def milliseconds(self) -> float | None:
        """In ONNX Runtime where that was measured, else in PyTorch."""
        return self.torch_ms if self.onnxruntime_ms is None else self.onnxruntime_ms

    @property
    def gflops(self) -> float | None:
        """GFLOP/s reached, 2 per multiply-accumulate; `None` where nothing was multiplied or timed."""
        return 2 * self.macs / self.milliseconds / 1e6 if self.macs and self.milliseconds else None

    @property
    def empty(self) -> bool:
        """Whether there is nothing to say: a container that neither holds, computes nor takes anything itself."""
        return self.own and not (self.ops or self.params or self.onnx_ops or self.torch_ms or self.onnxruntime_ms)


@dataclass(frozen=True)
class Totals:
    """Of the whole network. `params` follows the convention, the other two do not; elements, each tensor once.

    What an ONNX file does not tell is `None`.
    """

    params: int
    trainable_params: int | None
    buffers: int | None
    ops: int


@dataclass(frozen=True)
class Branch:
    """One module, or a call of it, with all below it; `depth`: 0 for the network itself.

    `path`, `type` and `output_shape` as in `Layer`; `params`, `ops` and the times are sums, a shared weight counted where
    it was first used. `None`: not measured.
    """

    path: str
    type: str
    depth: int
    output_shape: Shape | None = None
    params: int = 0
    ops: int = 0
    torch_ms: float | None = None
    onnxruntime_ms: float | None = None

    @property
    def name(self) -> str:
        """The last part of the path; "" for the network."""
        return self.path.rpartition(".")[2]


@dataclass(frozen=True)
class LayerTable:
    """The rows in the order of execution, their totals, and what was left out.

    `uncounted`: operators (name -> calls) that may multiply and accumulate but have no formula. `excluded`: operators whose
    arithmetic the convention leaves out by its definition. `notes`: one line each. `unknown_weights`: operators that store integers
    of which nobody says whether they are weights. `tree`: the sums per module, where they were asked for. `made_up`: rows whose
    operations rest on values that nobody gave.
    """

    convention: str
    batch: int
    layers: tuple[Layer, ...]
    totals: Totals
    uncounted: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unknown_weights: tuple[str, ...] = ()
    tree: tuple[Branch, ...] = ()
    made_up: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many layers there are: rows that only have a time (what runs between layers, what onnxruntime added) are none."""
        return sum(1 for row in self.layers if not row.own or row.params or row.ops)

    @property
    def params_at_least(self) -> bool:
        """Whether there may be more parameters than the total says."""
        return bool(self.unknown_weights)

    @property
    def ops_at_least(self) -> bool:
        """Whether there may be more operations than in the total: some are left out, or made-up values decide how many it is."""
        return bool(self.uncounted or self.made_up)

    def without_empty(self) -> LayerTable:
        """Only the rows that say something; the totals are the same."""
        return replace(self, layers=tuple(row for row in self.layers if not row.empty))
