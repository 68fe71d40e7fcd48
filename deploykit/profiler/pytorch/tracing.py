"""One forward pass, watched at the dispatcher: which module called which operators, on tensors of which shapes.

The pass runs on the meta device with stand-ins for parameters and buffers, so that no weights are allocated and nothing is
computed. A network that needs values on its way (a loop that ends when a number is small) is run for real instead.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode

from deploykit.errors import InputError
from deploykit.network import control_flow
from deploykit.network.running import plain_attention, refusal
from deploykit.profiler.layer_table import Shape
from deploykit.profiler.pytorch import operators


@dataclass(eq=False)
class Call:
    """One call of one module: `macs` and the operators are its own, without those of the modules it called."""

    path: str
    module: nn.Module
    parent: Call | None
    order: int
    children: list[Call] = field(default_factory=list)
    input_shape: Shape | None = None
    output_shape: Shape | None = None
    macs: int = 0
    counted: Counter[str] = field(default_factory=Counter)
    arithmetic: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Trace:
    """Every call in the order in which they began; the first is the network's own.

    `users`: for each parameter and buffer, by name, the first call that gave it to an operator. `on_meta`: no value was computed.
    """

    calls: tuple[Call, ...]
    users: Mapping[str, Call]
    on_meta: bool


def trace(network: nn.Module, inputs: Sequence[Tensor]) -> Trace:
    """Watch one forward pass on `inputs` (with their batch), in eval mode as the caller left it, without gradients.

    `network` is not changed: on the meta device its parameters are replaced for the duration of the call and put back.
    Raises `InputError` naming the layer that failed, or a layer whose parameters have no shape yet.
    """
    _require_shapes(network)
    with plain_attention(), torch.no_grad():
        # What needs values fails on meta in its own way; the real run decides. A network that makes tensors on its way needs
        # the meta device as its default, which costs time.
        for device in (None, torch.device("meta")):
            with contextlib.suppress(Exception, SystemExit), device or contextlib.nullcontext(), control_flow.uncompiled():
                return _watch(network, [tensor.to("meta") for tensor in inputs], on_meta=True)
        with control_flow.uncompiled():
            return _watch(network, inputs, on_meta=False)


def _require_shapes(network: nn.Module) -> None:
    """Raise for lazy layers: the first run decides what they are, and it must be the caller's."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise InputError(f"the parameter {name!r} has no shape yet", "run the network once on an example before it is profiled")


def _watch(network: nn.Module, inputs: Sequence[Tensor], on_meta: bool) -> Trace:
    stored: dict[str, Tensor] = dict((*network.named_parameters(), *network.named_buffers()))
    if on_meta:
        stored = {n: torch.empty_strided(t.size(), t.stride(), dtype=t.dtype, device="meta") for n, t in stored.items()}
    watcher = _Watcher(stored)
    try:
        with watcher.hooks(network), watcher:
            if _compiled(network):
                watcher.enter("", network, inputs)
            output = _called_with(network, stored, inputs) if on_meta else network(*inputs)
            if _compiled(network):
                watcher.leave(output)
    except (Exception, SystemExit) as error:
        raise refusal(error, network, [tensor.shape for tensor in inputs]) from error
    return Trace(tuple(watcher.calls), watcher.users, on_meta)


def _called_with(network: nn.Module, stored: Mapping[str, Tensor], inputs: Sequence[Tensor]) -> Any:
    """What `network` gives with `stored` in place of its parameters and buffers, which are put back.

    Every place that holds a tensor is named once: torch itself would name those of a module that is there twice twice, and put back
    the stand-ins of its first name.
    """
    first = {id(tensor): name for name, tensor in reversed((*network.named_parameters(), *network.named_buffers()))}
    places: dict[str, Tensor] = {}
    for path, module in network.named_modules():
        prefix = f"{path}." if path else ""
        for name, tensor in (
            *module.named_parameters(recurse=False, remove_duplicate=False),
            *module.named_buffers(recurse=False, remove_duplicate=False),
        ):
            places[prefix + name] = stored[first[id(tensor)]]
    return torch.func.functional_call(network, places, tuple(inputs), tie_weights=False)


class _Watcher(TorchDispatchMode):
    """Charges every operator to the module that is running."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: nothing here is compiled, and torch would import its whole compiler (over a second) to make sure of it."""
        return False

    def __init__(self, stored: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = {_memory(tensor): name for name, tensor in stored.items()}
        self.users: dict[str, Call] = {}
        self.calls: list[Call] = []
        self.running: list[Call] = []
        self.times_called: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not self.running:  # before the first module: nothing to charge
            return func(*args, **kwargs)
        call = self.running[-1]
        self._note_users(call, args)
        if kwargs:
            self._note_users(call, kwargs.values())
        formula = operators.formula_of(func)
        if formula is not None:
            out = func(*args, **kwargs)
            call.macs += formula(*args, out=out, **kwargs)
            call.counted[operators.name_of(func)] += 1
            return out
        if isinstance(func, HigherOrderOperator):
            return self._higher_order(func, args, kwargs)
        kind = operators.classify(func)
        if kind == "unknown":
            return self._unknown(func, args, kwargs)
        if kind == "arithmetic":
            name = operators.name_of(func)
            call.arithmetic[name] += 1
            short = _SHORTCUTS.get(name)
            if short is not None and not kwargs and args[0].is_meta:
                out = short(*args)
                if out is not None:
                    return out
        return func(*args, **kwargs)

    def _unknown(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operator made of others is counted by its parts; one that is not is written down by name."""
        if hasattr(func, "decompose"):
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        self.running[-1].unknown[operators.name_of(func)] += 1
        return func(*args, **kwargs)

    def _higher_order(self, func: HigherOrderOperator, args: Any, kwargs: Any) -> Any:
        """Control flow is followed, so that what runs inside counts; of others only the name is known."""
        if func.name() not in control_flow.FOLLOWED:
            self.running[-1].unknown[operators.name_of(func)] += 1
        return control_flow.follow(self, func, args, kwargs)

    def _note_users(self, call: Call, arguments: Iterable[Any]) -> None:
        """Note `call` as the user of every parameter and buffer among the arguments, lists of tensors (torch.cat) included."""
        for value in arguments:
            for tensor in (value,) if isinstance(value, Tensor) else tensors_in(value):
                name = self.names.get(_memory(tensor))
                if name is not None:
                    self.users.setdefault(name, call)

    @contextlib.contextmanager
    def hooks(self, network: nn.Module) -> Iterator[None]:
        handles = []
        try:
            for path, module in network.named_modules():
                if not _compiled(module):  # which takes no hooks, and is a part of the module that calls it
                    handles.append(module.register_forward_pre_hook(self._entering(path), with_kwargs=True))
                    handles.append(module.register_forward_hook(self._left))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def enter(self, path: str, module: nn.Module, args: Sequence[Any]) -> None:
        """A module begins to run."""
        count = self.times_called[path]
        self.times_called[path] += 1
        parent = self.running[-1] if self.running else None
        call = Call(f"{path}@{count}" if count else path, module, parent, len(self.calls), input_shape=first_shape(tuple(args)))
        if parent is not None:
            parent.children.append(call)
        self.calls.append(call)
        self.running.append(call)

    def leave(self, output: Any) -> None:
        """The module that runs has ended."""
        self.running.pop().output_shape = first_shape(output)

    def _entering(self, path: str) -> Any:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            self.enter(path, module, (*args, *kwargs.values()))

        return hook

    def _left(self, module: nn.Module, args: Any, output: Any) -> None:
        self.leave(output)


def _compiled(module: nn.Module) -> bool:
    return isinstance(module, torch.jit.ScriptModule)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, dicts and dataclasses, in their order; none in anything else."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in(tuple(getattr(value, field.name) for field in dataclasses.fields(value)))


def first_shape(value: Any) -> Shape | None:
    """The shape of the first tensor that `tensors_in` finds; `None` without one."""
    tensor = next(tensors_in(value), None)
    return None if tensor is None else tuple(int(size) for size in tensor.shape)


def _memory(tensor: Tensor) -> int:
    """The same number for every view of one tensor."""
    return tensor.untyped_storage()._cdata


def _like_its_input(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_strided(x.size(), x.stride(), dtype=x.dtype, device="meta")


def _like_both(x: Tensor, y: Any) -> Tensor | None:
    same = isinstance(y, Tensor) and x.shape == y.shape and x.dtype == y.dtype
    return _like_its_input(x) if same else None


def _batch_norm(x: Tensor, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, *_: Any) -> Any:
    return None if training else (_like_its_input(x), x.new_empty(0), x.new_empty(0))


# torch works out the results of these on the meta device in Python, slowly, and for some of them imports its whole compiler
# (over a second). A shortcut gives a result of the right shape and type, or `None` where it does not apply.
_SHORTCUTS: dict[str, Callable[..., Any]] = {
    "aten::relu": _like_its_input,
    "aten::_safe_softmax": _like_its_input,
    "aten::hardswish": _like_its_input,
    "aten::hardtanh": _like_its_input,
    "aten::add": _like_both,
    "aten::mul": _like_both,
    "aten::native_batch_norm": _batch_norm,
}
