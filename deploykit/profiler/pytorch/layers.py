"""The layer table of a PyTorch network: one row per call of a leaf module, in the order of execution.

What a container runs itself (attention, a product, an addition) has a row of its own where it costs anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import Tensor, nn

from deploykit.profiler import conventions
from deploykit.profiler.conventions import Convention
from deploykit.profiler.layer_table import Layer, LayerTable, Shape, Totals
from deploykit.profiler.pytorch import paddle as paddle_layers
from deploykit.profiler.pytorch.tracing import Call, Trace, trace

Depth = int | Literal["leaves"]


def count(network: nn.Module, inputs: Sequence[Tensor], convention: str = "macs", depth: Depth = "leaves") -> LayerTable:
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
    """Turns calls into rows; each parameter is charged to the first row that has it."""

    def __init__(self, network: nn.Module, traced: Trace, rules: Convention) -> None:
        self.network, self.traced, self.rules = network, traced, rules
        self.seen: set[int] = set()
        self.modules = dict(network.named_modules())
        called = {id(call.module) for call in traced.calls}
        self.borrowed: dict[Call, list[Tensor]] = {}
        for path, module in self.modules.items():
            if id(module) in called:
                continue
            for name, tensor in self._stored_in(module):
                user = traced.users.get(f"{path}.{name}")
                if user is not None:
                    self.borrowed.setdefault(user, []).append(tensor)

    def table(self, depth: Depth) -> Iterator[Layer]:
        yield from self._rows(self.traced.calls[0], depth)
        for path, module in self.modules.items():
            left = self._charge(tensor for _, tensor in self._stored_in(module))
            if left:
                yield Layer(path, type(module).__name__, None, None, params=left, called=False)

    def _rows(self, call: Call, depth: Depth) -> Iterator[Layer]:
        if not call.children:
            kernel, stride, padding = _geometry(call.module)
            yield self._row(call, self._own_ops(call), self._tensors(call), kernel=kernel, stride=stride, padding=padding)
            return
        if depth != "leaves" and _level(call.path) >= depth:
            calls = list(_below(call))
            tensors = [tensor for part in calls for tensor in self._tensors(part)]
            ops = sum(self._own_ops(part) for part in calls)
            yield self._row(call, ops, tensors, macs=sum(part.macs for part in calls))
            return
        for child in call.children:
            yield from self._rows(child, depth)
        yield self._row(call, self._own_ops(call), self._tensors(call), own=True)

    def _row(self, call: Call, ops: int, tensors: Sequence[Tensor], **more: Any) -> Layer:
        kind, params = type(call.module).__name__, self._charge(tensors)
        more = {"macs": call.macs, **more}
        return Layer(call.path, kind, call.input_shape, call.output_shape, params=params, ops=ops, **more)

    def _own_ops(self, call: Call) -> int:
        if self.rules.per_mac is not None:
            return self.rules.per_mac * call.macs
        return (paddle_layers.operations(call) or 0) if not call.children else 0

    def _tensors(self, call: Call) -> list[Tensor]:
        return [tensor for _, tensor in self._stored_in(call.module)] + self.borrowed.get(call, [])

    def _stored_in(self, module: nn.Module) -> list[tuple[str, Tensor]]:
        """The module's own parameters by name; in the paddle convention its running statistics too."""
        found: list[tuple[str, Tensor]] = [(n, p) for n, p in module._parameters.items() if p is not None]
        if self.rules.name == "paddle":
            found += [(n, b) for n, b in module._buffers.items() if b is not None and n in ("running_mean", "running_var")]
        return found

    def _charge(self, tensors: Iterator[Tensor] | Sequence[Tensor]) -> int:
        fresh = {id(tensor): tensor for tensor in tensors if id(tensor) not in self.seen}
        self.seen.update(fresh)
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
        elif paddle_layers.operations(call) is None:
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


def _below(call: Call) -> Iterator[Call]:
    yield call
    for child in call.children:
        yield from _below(child)


def _plain(names: Counter[str]) -> Counter[str]:
    """`aten::relu` is shown as `relu`; other libraries keep their prefix."""
    return Counter({name.removeprefix("aten::").removesuffix("_"): calls for name, calls in names.items()})
