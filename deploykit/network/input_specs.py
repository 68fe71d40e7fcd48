"""What a network takes: the name, shape and type of each input, and values to try it with."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import InputError, first_line

# All that both PyTorch and numpy have.
DTYPES = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")
BYTES = {torch.uint8: 256, torch.int8: 128}
MOST_TABLES = 8  # each costs two runs of the network


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
        except (RuntimeError, ValueError, TypeError, OverflowError) as error:  # torch's ways to say that there is no memory
            sizes = "x".join(map(str, shape))
            problem = f"an input {self.name!r} of {sizes} does not fit into memory"
            raise InputError(problem, "choose a smaller --input-shape or batch") from error

    def require_numpy(self) -> None:
        """Raise `InputError` for a type that onnxruntime's Python interface cannot be given."""
        if str(self.dtype).removeprefix("torch.") not in DTYPES:
            raise InputError(f"the input {self.name!r} takes {self.dtype}, which numpy does not have", "use another type")

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
        specs = tuple(_of_type(spec, _dtype(name)) for spec, name in zip(specs, dtypes, strict=True))
    return specs


def _of_type(spec: InputSpec, dtype: torch.dtype) -> InputSpec:
    return spec if spec.dtype == dtype else replace(spec, dtype=dtype, below=BYTES.get(dtype, 2))


def _dtype(name: str) -> torch.dtype:
    if name not in DTYPES:
        raise InputError(f"unknown type {name[:40]!r} of an input", f"choose one of {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _examples(module: nn.Module, target: str) -> tuple[InputSpec, ...]:
    examples = getattr(module, "example_inputs", None)
    if callable(examples):
        try:
            examples = examples()
        except Exception as error:  # whatever the user's code raises
            raise InputError(f"`example_inputs` of {target} raised {type(error).__name__}: {first_line(error)}") from error
    if isinstance(examples, Tensor):
        examples = [examples]
    if examples is None:
        return ()
    if isinstance(examples, Mapping):
        named = _in_order(module, examples, target)
    elif isinstance(examples, Sequence):
        named = dict(zip(_names(module, len(examples)), examples, strict=True))
    else:
        raise InputError(f"`example_inputs` of {target} is a {type(examples).__name__}", "make it a list or a dict of tensors")
    for name, value in named.items():
        if not isinstance(value, Tensor) or not value.ndim or value.is_complex():
            problem = f"{name!r} in `example_inputs` of {target} is no tensor of real numbers with a batch"
            raise InputError(problem, "give tensors whose first axis is the batch")
    return tuple(InputSpec(name, tuple(t.shape[1:]), t.dtype, _below(t)) for name, t in named.items())


def _below(example: Tensor) -> int:
    """What the example's own numbers are below; bytes are images, and take all values."""
    if example.dtype.is_floating_point or example.dtype == torch.bool or not example.numel():
        return 2
    return max(2, min(int(example.max()), 1 << 62) + 1, BYTES.get(example.dtype, 2))


def _in_order(module: nn.Module, examples: Mapping[str, Any], target: str) -> dict[str, Any]:
    """By the parameters of `forward`, which gets them by position."""
    places = parameters(module)
    if not set(examples) <= set(places):
        return {str(name): value for name, value in examples.items()}
    named = {name: examples[name] for name in places if name in examples}
    skipped = next((name for name in places[: len(named)] if name not in named), None)
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
    names = parameters(module)[:count]
    return names + [f"input_{place}" for place in range(len(names), count)]


def takes_more(module: nn.Module) -> bool:
    """Whether `forward` has ``*args``."""
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in found)


def parameters(module: nn.Module) -> list[str]:
    """Names of what `forward` takes by position, without ``*args``."""
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is no Python function
        return []
    return [parameter.name for parameter in found if parameter.kind in by_position]


def _bounded(module: nn.Module, specs: tuple[InputSpec, ...]) -> tuple[InputSpec, ...]:
    """Whole numbers that are an index up to the last row of their table: with 0 and 1 alone, most of it goes unseen.

    An input is an index of a table if the network takes the number of its last row and refuses the next one; a mask is none.
    """
    found = list(specs)
    for place, spec in enumerate(specs):
        if spec.dtype in (torch.int64, torch.int32):
            found[place] = next((wide for rows in _rows(module) if (wide := _index(module, found, place, rows))), spec)
    return tuple(found)


def _rows(module: nn.Module) -> list[int]:
    """Rows of all that may be a table: of embeddings, largest first, then of other matrices."""
    tables = (nn.Embedding, nn.EmbeddingBag)
    sure = {child.num_embeddings for child in module.modules() if isinstance(child, tables)}
    maybe = {tensor.shape[0] for tensor in (*module.parameters(), *module.buffers()) if tensor.ndim == 2} - sure
    return sorted(sure, reverse=True) + sorted(maybe, reverse=True)[:MOST_TABLES]


def _index(module: nn.Module, specs: Sequence[InputSpec], place: int, rows: int) -> InputSpec | None:
    if _takes(module, specs, place, rows - 1) and not _takes(module, specs, place, rows):
        return replace(specs[place], below=rows)
    return None


def _takes(module: nn.Module, specs: Sequence[InputSpec], place: int, value: int) -> bool:
    """Whether the network takes `value` in one input, beside zeros in the others."""
    try:
        inputs = [torch.zeros(1, *spec.shape, dtype=spec.dtype) for spec in specs]
        inputs[place] += value
        with torch.no_grad():
            module(*inputs)
    except Exception:  # an index out of range, or whatever else the network says of it
        return False
    return True
