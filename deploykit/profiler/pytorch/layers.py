"""The layer table of a PyTorch network: one row per call of a leaf module, in the order of execution.

What a container runs itself (attention, a product, an addition) has a row of its own where it costs anything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Layer, LayerTable, Shape, Totals
from deploykit.profiler.pytorch import paddle as paddle_layers
from deploykit.profiler.pytorch.tracing import Call, Trace, trace

Depth = int | Literal["leaves"]


def count_layers(network: nn.Module, inputs: Sequence[Tensor], convention: str = "macs", depth: Depth = "leaves") -> LayerTable:
    """Count one forward pass on `inputs`, tensors with their batch; their values matter only where the network's path does.

    `depth`: "leaves", or a number of levels below the network (0: one row for all). No weights are allocated and the network
    is not changed. Containers that cost nothing themselves have a row too: see `LayerTable.without_empty`.
    Raises `UnknownName` for the convention, `InputError` naming the layer that cannot take its input.
    """
    rules = conventions.get(convention)
    traced = trace(network, inputs)
    rows = tuple(_Rows(network, traced, rules).table(depth))
    params = {id(p): p for p in network.parameters()}
    buffers = {id(b): b for b in network.buffers()}
    totals = Totals(
        params=sum(row.params for row in rows),
        trainable_params=sum(p.numel() for p in params.values() if p.requires_grad),
        buffers=sum(b.numel() for b in buffers.values()),
        ops=sum(row.ops for row in rows),
    )
    uncounted, excluded = _left_out(traced, rules)
    batch = int(inputs[0].shape[0]) if inputs and inputs[0].ndim else 1
    return LayerTable(rules.name, batch, rows, totals, uncounted, excluded, tuple(_notes(traced, rules, rows)))


class _Rows:
    """Turns the calls of a trace into rows.

    1. A call without calls below it is a row; so is, at the `depth` asked for, a call together with all below it.
    2. Any other call is the rows of the calls below it, then one row (`own`) of what it runs itself.
    3. Each parameter is charged to the first row that has it: the module's own ones, and those that it *borrows*: of a module
       that nobody calls, and whose parameters an operator of this call takes.
    4. What is charged to no row then becomes rows of modules that were never called.
    """

    def __init__(self, network: nn.Module, traced: Trace, rules: Convention) -> None:
        self.traced, self.rules = traced, rules
        self.modules = dict(network.named_modules())
        self.charged: set[int] = set()  # ids of the tensors that a row has
        self.borrowed = self._borrowed()

    def table(self, depth: Depth) -> Iterator[Layer]:
        """All rows in the order of execution; those of modules that were never called come last."""
        yield from self._rows(self.traced.calls[0], depth)
        for path, module in self.modules.items():
            left = self._charge(self._stored_in(module).values())
            if left:
                yield Layer(path, type(module).__name__, None, None, params=left, called=False)

    def _rows(self, call: Call, depth: Depth) -> Iterator[Layer]:
        if not call.children:
            kernel, stride, padding = _geometry(call.module)
            yield replace(self._row(call, [call]), kernel=kernel, stride=stride, padding=padding)
        elif depth != "leaves" and _level(call.path) >= depth:
            yield self._row(call, list(_with_all_below(call)))
        else:
            for child in call.children:
                yield from self._rows(child, depth)
            yield replace(self._row(call, [call]), own=True)

    def _row(self, call: Call, parts: Sequence[Call]) -> Layer:
        """A row that is called after `call` and sums up `parts`."""
        return Layer(
            call.path,
            type(call.module).__name__,
            call.input_shape,
            call.output_shape,
            params=self._charge(tensor for part in parts for tensor in self._tensors(part)),
            ops=sum(self._ops(part) for part in parts),
            macs=sum(part.macs for part in parts),
        )

    def _ops(self, call: Call) -> int:
        """Operations of the call itself under the convention, without those of the calls below it."""
        if self.rules.per_mac is not None:
            return self.rules.per_mac * call.macs
        return (paddle_layers.layer_ops(call) or 0) if not call.children else 0

    def _tensors(self, call: Call) -> Iterator[Tensor]:
        yield from self._stored_in(call.module).values()
        yield from self.borrowed.get(call, ())

    def _borrowed(self) -> dict[Call, list[Tensor]]:
        """Per call the parameters that its operators take from modules that nobody calls."""
        called = {id(call.module) for call in self.traced.calls}
        found: dict[Call, list[Tensor]] = defaultdict(list)
        for path, module in self.modules.items():
            if id(module) not in called:
                for name, tensor in self._stored_in(module).items():
                    user = self.traced.users.get(f"{path}.{name}" if path else name)
                    if user is not None:
                        found[user].append(tensor)
        return found

    def _stored_in(self, module: nn.Module) -> dict[str, Tensor]:
        """The module's own parameters by name; in the paddle convention its running statistics too."""
        found: dict[str, Tensor] = {name: tensor for name, tensor in module._parameters.items() if tensor is not None}
        if self.rules.name == "paddle":
            statistics = {name: module._buffers.get(name) for name in ("running_mean", "running_var")}
            found |= {name: tensor for name, tensor in statistics.items() if tensor is not None}
        return found

    def _charge(self, tensors: Iterable[Tensor]) -> int:
        """The elements of those tensors that no row has yet; from now on one has them."""
        fresh = {id(tensor): tensor for tensor in tensors if id(tensor) not in self.charged}
        self.charged.update(fresh)
        return sum(tensor.numel() for tensor in fresh.values())


def _left_out(traced: Trace, rules: Convention) -> tuple[dict[str, int], dict[str, int]]:
    """(uncounted, excluded): what may multiply and accumulate but has no formula, and what the convention leaves out."""
    uncounted: Counter[str] = Counter()
    excluded: Counter[str] = Counter()
    for call in traced.calls:
        uncounted.update(_plain(call.unknown))
        if rules.per_mac is not None:
            excluded.update(_plain(call.arithmetic))
        elif call.children:
            uncounted.update(_plain(call.counted))
            excluded.update(_plain(call.arithmetic))
        elif paddle_layers.layer_ops(call) is None:
            (uncounted if call.macs else excluded)[type(call.module).__name__] += 1
    return dict(sorted(uncounted.items())), dict(sorted(excluded.items()))


def _notes(traced: Trace, rules: Convention, rows: Sequence[Layer]) -> Iterator[str]:
    if not traced.on_meta:
        yield "the path through this network depends on its values: counted on one run with random numbers"
    if any("@" in row.path for row in rows):
        yield "path@1 is the second call of a module; its parameters are counted at the first"
    idle = [row.path for row in rows if not row.called]
    if idle:
        yield f"holds parameters but was never called: {listing(idle)}"
    if rules.per_mac is None:
        yield "paddle.flops sees layers only: what the forward pass calls as functions counts 0"


def listing(names: Sequence[str], most: int = 8) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _geometry(module: nn.Module) -> tuple[Shape | None, Shape | None, Shape | str | None]:
    """kernel, stride and padding where the module has them, whatever its type; one number stands for every axis."""
    kernel = _sizes(getattr(module, "kernel_size", None), _spatial_rank(module))
    if kernel is None:
        return None, None, None
    padding = getattr(module, "padding", None)
    stride = _sizes(getattr(module, "stride", None), len(kernel))
    return kernel, stride, padding if isinstance(padding, str) else _sizes(padding, len(kernel))


def _spatial_rank(module: nn.Module) -> int:
    """2 for MaxPool2d, which may hold its kernel as one number."""
    last = type(module).__name__[-2:]
    return int(last[0]) if last in ("1d", "2d", "3d") else 1


def _sizes(value: object, rank: int) -> Shape | None:
    if isinstance(value, int):
        return (value,) * rank
    if isinstance(value, (tuple, list)) and all(isinstance(v, int) for v in value):
        return tuple(value)
    return None


def _level(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _with_all_below(call: Call) -> Iterator[Call]:
    yield call
    for child in call.children:
        yield from _with_all_below(child)


def _plain(names: Counter[str]) -> Counter[str]:
    """`aten::relu` is shown as `relu`; other libraries keep their prefix."""
    return Counter({name.removeprefix("aten::").removesuffix("_"): calls for name, calls in names.items()})
