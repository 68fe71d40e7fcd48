"""How a network is called: which tensors its `forward` takes, by position, by keyword, or inside of lists and dicts.

Everything behind this module gives a network its tensors one after another. For a network that wants them otherwise, `bind` lets
its `forward` take them so; its modules and their paths stay what they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import InputError, kind_of
from deploykit.runtime.values import LONE as LONE

OWN = "`example_inputs`"
CONSTANTS = (type(None), bool, int, float, str)


@dataclass(frozen=True)
class Leaf:
    """A place for a tensor: its number in the order in which they are given."""

    number: int


@dataclass(frozen=True)
class Call:
    """The arguments of `forward`, with a `Leaf` wherever a tensor goes, and the names of the tensors in order."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Whether the tensors are given by position and nothing else is, as `forward` takes them itself."""
        return not self.kwargs and all(isinstance(value, Leaf) for value in self.args)

    def arguments(self, tensors: Sequence[Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the tensors in their places."""
        return tuple(_filled(value, tensors) for value in self.args), {k: _filled(v, tensors) for k, v in self.kwargs.items()}


def parameters(module: nn.Module) -> list[str]:
    """Names of what `forward` takes by position, without ``*args``."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [parameter.name for parameter in _signature(module) if parameter.kind in by_position]


def takes_more(module: nn.Module) -> bool:
    """Whether `forward` has ``*args``."""
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in _signature(module))


def required(module: nn.Module) -> list[str]:
    """Names of the parameters of `forward` without a default."""
    collecting = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in _signature(module) if p.default is inspect.Parameter.empty and p.kind not in collecting]


def call_of(module: nn.Module, examples: Any, target: str, source: str = OWN) -> tuple[Call, list[Tensor]]:
    """How `forward` is called with `examples`, and their tensors in order.

    `examples`: a tensor; a sequence, by position; or a mapping by parameter. Any of them may hold lists and dicts of tensors,
    `None` for what is left out, and numbers, which become constants of the file. A mapping whose keys are no parameters is itself
    what a `forward` of one parameter takes. `source`: where the examples come from, for messages. Raises `InputError` with what
    cannot be an input.
    """
    tensors: list[Tensor] = []
    names: list[str] = []

    def placed(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            if value.is_complex() or value.is_sparse or value.is_quantized:
                raise InputError(f"{path!r} in {source} of {target} is no dense tensor of real numbers", "give one")
            tensors.append(value)
            names.append(path)
            return Leaf(len(tensors) - 1)
        if isinstance(value, Mapping):
            return {key: placed(inner, f"{path}_{key}") for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            inner = [placed(each, f"{path}_{place}") for place, each in enumerate(value)]
            return _like(value, inner)
        if isinstance(value, CONSTANTS):
            return value
        problem = f"{path!r} in {source} of {target} is {kind_of(value)}"
        raise InputError(problem, "give tensors, lists and dicts of tensors, None or numbers")

    args, kwargs = _split(module, examples, target, source)
    places = [*parameters(module)]
    places += [f"input_{place}" for place in range(len(places), len(args))]
    call_args = tuple(placed(value, places[place]) for place, value in enumerate(args))
    call_kwargs = {name: placed(value, name) for name, value in kwargs.items()}
    if not tensors:
        raise InputError(f"{source} of {target} holds no tensor", "make it a list or a dict of tensors")
    return Call(call_args, call_kwargs, (LONE,) if len(names) == 1 else _unique(names)), tensors


def bind(module: nn.Module, call: Call) -> None:
    """Let `module.forward` take the tensors of `call` one after another; nothing is changed where it does so already.

    The class keeps its own `forward`; this module's is reached by ``module.forward.__wrapped__``.
    """
    if call.plain:
        return
    inner = module.forward

    def forward(*tensors: Tensor) -> Any:
        args, kwargs = call.arguments(tensors)
        return inner(*args, **kwargs)

    # The names of the tensors as parameters: torch.export and messages call them so.
    by_position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [
        inspect.Parameter(name if name.isidentifier() else f"input_{n}", by_position) for n, name in enumerate(call.names)
    ]
    forward.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    forward.__wrapped__ = inner  # type: ignore[attr-defined]
    module.forward = forward


def bind_types(module: nn.Module, types: Sequence[torch.dtype]) -> None:
    """Let `module.forward` take its tensors, given by position, in any type: it gets them in `types`, one for each."""
    inner = module.forward

    def forward(*tensors: Tensor) -> Any:
        return inner(*(tensor.to(dtype) for tensor, dtype in zip(tensors, types, strict=True)))

    forward.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    forward.__wrapped__ = inner  # type: ignore[attr-defined]
    module.forward = forward


def _signature(module: nn.Module) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):  # a forward that is no Python function
        return []


def _split(module: nn.Module, examples: Any, target: str, source: str) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The examples by position, and by keyword. What can be given by position is, up to the first that is left out."""
    if isinstance(examples, Tensor):
        return [examples], {}
    if isinstance(examples, (list, tuple)):
        while examples and examples[-1] is None:  # what is left out last need not be said
            examples = examples[:-1]
        return examples, {}
    if not isinstance(examples, Mapping):
        raise InputError(f"{source} of {target} is {kind_of(examples)}", "make it a list or a dict of tensors")
    found = _signature(module)
    known = {parameter.name for parameter in found} | (set(examples) if _takes_any_keyword(found) else set())
    if not set(examples) <= known:
        places = parameters(module)
        needed = [name for name in required(module) if name in places]
        if not set(examples) & known and len(needed or places[:1]) == 1:
            return [examples], {}
        if not set(examples) & known and len(examples) == len(needed):
            return list(examples.values()), {}
        unknown = next(name for name in examples if name not in known)
        raise InputError(
            f"{source} of {target} name {str(unknown)[:60]!r}, which forward() does not take",
            f"it takes {', '.join(parameter.name for parameter in found)}",
        )
    args = []
    rest = dict(examples)
    for name in parameters(module):
        if name not in rest:
            break
        args.append(rest.pop(name))
    return args, {name: value for name, value in rest.items() if value is not None}


def _takes_any_keyword(found: Sequence[inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in found)


def _filled(value: Any, tensors: Sequence[Tensor]) -> Any:
    if isinstance(value, Leaf):
        return tensors[value.number]
    if isinstance(value, Mapping):
        return {key: _filled(inner, tensors) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return _like(value, [_filled(inner, tensors) for inner in value])
    return value


def _like(value: Any, items: list[Any]) -> Any:
    """`items` in the kind of sequence that `value` is; a named tuple takes them one by one."""
    if isinstance(value, tuple):
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return items


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    def each() -> Iterator[str]:
        taken: set[str] = set()
        for name in names:
            free, count = name, 0
            while free in taken:
                count += 1
                free = f"{name}_{count}"
            taken.add(free)
            yield free

    return tuple(each())
