"""What a network takes: the name, shape and type of each input, and values to try it with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import InputError

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


@dataclass(frozen=True)
class InputSpec:
    """One input of a network: `shape` without the batch, `dtype` as torch names it; whole numbers are below `below`."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32
    below: int = 2

    def random(self, batch: int, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal values, or whole numbers from 0 to `below` - 1; shape (batch, *shape).

        Raises `InputError` for a shape that does not fit into memory.
        """
        shape = (batch, *self.shape)
        try:
            if self.dtype.is_floating_point:
                return torch.randn(shape, generator=generator, dtype=self.dtype)
            return torch.randint(0, self.below, shape, generator=generator).to(self.dtype)
        except RuntimeError as error:  # torch's way to say that there is no memory
            sizes = "x".join(map(str, shape))
            problem = f"an input {self.name!r} of {sizes} does not fit into memory"
            raise InputError(problem, "choose a smaller --input-shape or batch") from error

    def document(self) -> dict[str, Any]:
        """The public JSON form, for the contract."""
        return {"name": self.name, "shape": list(self.shape), "dtype": str(self.dtype).removeprefix("torch.")}


def of_module(
    module: nn.Module,
    shapes: Sequence[tuple[int, ...]] | None,
    dtypes: Sequence[str] | None,
    fallback: Sequence[InputSpec],
    target: str,
) -> tuple[InputSpec, ...]:
    """The inputs of a user's network, as many as it is called with.

    From the module's own `example_inputs` (tensors with a batch, by name or in order), with `shapes` and `dtypes` over them;
    without examples from `shapes`, and last from `fallback`: the inputs of a file that was exported from it, whose sizes also go
    over those of the examples. Raises `InputError` where nothing is known, or where they do not fit together.
    """
    known = _examples(module, target)
    if not known and shapes:
        names = _names(module, len(shapes))
        known = tuple(InputSpec(name, tuple(shape)) for name, shape in zip(names, shapes, strict=True))
    if not known or (not shapes and [spec.name for spec in known] == [spec.name for spec in fallback]):
        known = tuple(replace(spec, shape=other.shape) for spec, other in zip(known or fallback, fallback, strict=True))
    if not known:
        raise InputError(
            f"the input of {target} is not known",
            "give --input-shape 3x224x224 (without the batch), or set `example_inputs` on the module",
        )
    return _bounded(module, changed(known, shapes, dtypes, target))


def changed(
    known: Sequence[InputSpec], shapes: Sequence[tuple[int, ...]] | None, dtypes: Sequence[str] | None, target: str
) -> tuple[InputSpec, ...]:
    """`known` with other shapes and types where those are given, one per input. Raises `InputError`."""
    for given, what in ((shapes, "shapes"), (dtypes, "types")):
        if given and len(given) != len(known):
            raise InputError(f"{target} has {len(known)} inputs, {len(given)} {what} were given", "give one per input, in order")
    specs = tuple(known)
    if shapes:
        specs = tuple(replace(spec, shape=tuple(shape)) for spec, shape in zip(specs, shapes, strict=True))
    if dtypes:
        specs = tuple(replace(spec, dtype=_dtype(name)) for spec, name in zip(specs, dtypes, strict=True))
    return specs


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"unknown type {name[:40]!r} of an input", f"choose one of {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _examples(module: nn.Module, target: str) -> tuple[InputSpec, ...]:
    examples = getattr(module, "example_inputs", None)
    if callable(examples):
        examples = examples()
    if isinstance(examples, Tensor):
        examples = [examples]
    if not examples:
        return ()
    if isinstance(examples, Mapping):
        named = _in_order(module, examples, target)
    elif isinstance(examples, Sequence):
        named = dict(zip(_names(module, len(examples)), examples, strict=True))
    else:
        raise InputError(f"`example_inputs` of {target} is a {type(examples).__name__}", "make it a list or a dict of tensors")
    for name, value in named.items():
        if not isinstance(value, Tensor) or not value.ndim:
            problem = f"{name!r} in `example_inputs` of {target} is no tensor with a batch"
            raise InputError(problem, "give tensors whose first axis is the batch")
    return tuple(InputSpec(name, tuple(t.shape[1:]), t.dtype, _below(t)) for name, t in named.items())


def _below(example: Tensor) -> int:
    whole = not (example.dtype.is_floating_point or example.dtype.is_complex or example.dtype == torch.bool)
    return max(2, int(example.max()) + 1) if whole and example.numel() else 2


def _in_order(module: nn.Module, examples: Mapping[str, Any], target: str) -> dict[str, Any]:
    """By the parameters of `forward`, which gets them by position."""
    parameters = _parameters(module)
    if not set(examples) <= set(parameters):
        return {str(name): value for name, value in examples.items()}
    named = {name: examples[name] for name in parameters if name in examples}
    skipped = next((name for name in parameters[: len(named)] if name not in named), None)
    if skipped is not None:
        raise InputError(
            f"`example_inputs` of {target} leaves out {skipped!r}, which comes before {list(named)[-1]!r} in forward()",
            "inputs are given by position: put those that are left out last",
        )
    return named


def _names(module: nn.Module, count: int) -> list[str]:
    """`input` for one; the parameters of `forward` for several, with numbers where it takes `*args`."""
    if count == 1:
        return ["input"]
    names = _parameters(module)[:count]
    return names + [f"input_{place}" for place in range(len(names), count)]


def _parameters(module: nn.Module) -> list[str]:
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is no Python function
        return []
    return [parameter.name for parameter in found if parameter.kind in by_position]


def _bounded(module: nn.Module, specs: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Whole numbers up to the largest that the network takes as an index: with 0 and 1 alone, most of an embedding goes unseen."""
    rows = {child.num_embeddings for child in module.modules() if isinstance(child, nn.Embedding)}
    found = list(specs)
    for place, spec in enumerate(specs):
        if rows and spec.dtype in (torch.int64, torch.int32):
            ranges = [replace(spec, below=below) for below in sorted(rows | {spec.below}, reverse=True)]
            found[place] = next((wide for wide in ranges if _takes_largest(module, found, place, wide)), spec)
    return tuple(found)


def _takes_largest(module: nn.Module, specs: Sequence[InputSpec], place: int, wanted: InputSpec) -> bool:
    """Whether the network takes the largest value of `wanted` in its place, beside zeros in the other inputs."""
    try:
        inputs = [torch.zeros(1, *spec.shape, dtype=spec.dtype) for spec in specs]
        inputs[place] += wanted.below - 1
        with torch.no_grad():
            module(*inputs)
    except Exception:  # an index out of range, or whatever else the network says of it
        return False
    return True
