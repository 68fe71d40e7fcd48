"""What PyTorch says: in float32 as the user runs it, and in float64 as the truth that both sides are judged by."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.errors import InputError, first_line
from deploykit.network import outputs as network_outputs
from deploykit.verdict.comparison import distance
from deploykit.verdict.inputs import Batch
from deploykit.verdict.precision import PlainSums, Precision, rounded, widened
from deploykit.verdict.values import Values

LONG = 256  # terms; shorter sums lose no more in one order than in another
FEW = 64  # output values; so few may by luck all be nearer to the truth than float32 usually is
SHAKEN = 3


@dataclass(frozen=True)
class Answers:
    """Outputs in order, and the output of every module call by path; the second call of ``fc`` is ``fc@1``."""

    outputs: list[NDArray[Any]]
    layers: Values


@dataclass(frozen=True)
class Observation:
    """One batch as the network itself sees it: `wide` in float64, `narrow` in float32.

    `noise` is what tells how far a file may be off: `narrow`, or the network rounded to float16 where the file is, or with
    plain sums where it has long ones; where there are few values, each is the worst of several answers in float32.
    """

    batch: Batch
    wide: Answers
    narrow: Answers
    noise: Answers

    @property
    def tells(self) -> bool:
        """Whether the network's own outputs in float64 hold a finite number, or nothing at all."""
        return any(has_numbers(array) for array in self.wide.outputs)

    @property
    def overflows(self) -> bool:
        """Whether an output that is finite in float64 is not so in the file's own precision."""
        return any(bool((np.isfinite(w) & ~np.isfinite(n)).any()) for w, n in self._outputs())

    @property
    def undefined(self) -> bool:
        """Whether an output that is infinite or NaN in float64 is anything else in the file's own precision."""
        return any(bool((~np.isfinite(w) & (distance(w, n) != 0)).any()) for w, n in self._outputs())

    def _outputs(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for wide, noise in zip(self.wide.outputs, self.noise.outputs, strict=True):
            if wide.dtype.kind == "f" and wide.shape == noise.shape:
                yield wide, noise

    @property
    def layers(self) -> list[str]:
        """Paths of the module calls that every precision made: a loop that ends on a value may turn once more in one of them."""
        return [path for path in self.wide.layers if path in self.narrow.layers and path in self.noise.layers]


def has_numbers(array: NDArray[Any]) -> bool:
    """Whether a value is finite; an array without elements has none that is not."""
    return not array.size or bool(np.isfinite(array).any())


class Reference:
    """The network in eval mode, asked in two precisions, or three where the file is float16. Its weights come back untouched."""

    def __init__(self, module: nn.Module, precision: Precision = "fp32") -> None:
        self.module = module.eval()
        self.precision = precision
        self.note = ""

    def observe(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Observation]:
        """Every batch once per precision; layers are kept for the batches named in `with_layers`."""
        with PlainSums(active=False) as sums:
            narrow = [self.ask(batch.tensors, batch.name in with_layers) for batch in batches]
        noise = narrow
        if self.precision == "fp32" and sums.longest > LONG:
            with PlainSums():
                noise = [self.ask(batch.tensors, batch.name in with_layers) for batch in batches]
        if self.precision == "fp16":
            with rounded(self.module):
                noise = [self.ask(_each(batch, _halve), batch.name in with_layers) for batch in batches]
        wide = self._wide(batches, with_layers)
        few = sum(array.size for answers in narrow for array in answers.outputs) < FEW
        if self.precision == "fp32" and (few or wide is None):
            shaken = self._shaken(batches, with_layers)
            noise = [_farthest(truth, answers) for truth, *answers in zip(wide or narrow, noise, *shaken, strict=True)]
        return [Observation(*row) for row in zip(batches, wide or narrow, narrow, noise, strict=True)]

    def _shaken(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[list[Answers]]:
        """In float32, to inputs that differ in their last bit."""
        return [
            [self.ask(_each(batch, partial(_shake, seed)), batch.name in with_layers) for batch in batches]
            for seed in range(SHAKEN)
        ]

    def _wide(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Answers] | None:
        """In float64; `None` for a network that insists on float32 inside, for which float32 is all there is."""
        for sparing in (True, False):
            try:
                with widened(self.module, sparing):
                    return [self.ask(_each(batch, _widen), batch.name in with_layers) for batch in batches]
            except Exception as error:  # whatever a network raises of types that it did not expect
                kind = type(error.__cause__ or error).__name__
        self.note = f"no float64 reference: {kind}; PyTorch in float32 stands in for it"
        return None

    def ask(self, tensors: Sequence[Tensor], layers: bool = False) -> Answers:
        """One run with the weights as they are now. Raises `InputError` with what the network says of its inputs."""
        found = Values()
        with torch.no_grad(), _recording(self.module, found) if layers else nullcontext():
            outputs = self._called(tensors)
        return Answers(network_outputs.arrays(outputs), found)

    def _called(self, tensors: Sequence[Tensor]) -> Any:
        try:
            return self.module(*tensors)
        except Exception as error:  # whatever the network's own code raises
            shapes = ", ".join("x".join(map(str, tensor.shape)) for tensor in tensors)
            problem = f"the network cannot take an input of {shapes}: {first_line(error)}"
            raise InputError(problem, "choose another --input-shape or --input-dtype") from error


@contextmanager
def _recording(module: nn.Module, found: Values) -> Iterator[None]:
    """Keep what every module gives back."""
    calls: dict[str, int] = {}

    def keep(path: str, output: Any) -> None:
        count = calls.get(path, 0)
        calls[path] = count + 1
        first = output[0] if isinstance(output, tuple) and output else output
        if isinstance(first, Tensor):
            found[f"{path}@{count}" if count else path] = network_outputs.to_numpy(first)

    paths = {id(child): path for path, child in module.named_modules()}
    hooks = [
        child.register_forward_hook(lambda owner, _args, output: keep(paths[id(owner)], output))
        for path, child in module.named_modules()
        if path
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _each(batch: Batch, convert: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [convert(t) if t.dtype.is_floating_point else t for t in batch.tensors]


def _widen(tensor: Tensor) -> Tensor:
    return tensor.double()


def _shake(seed: int, tensor: Tensor) -> Tensor:
    """Each value moved by its last bit, up or down: what this changes in the answer is nothing but rounding."""
    signs = torch.randint(0, 2, tensor.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return tensor * (1 + signs * torch.finfo(tensor.dtype).eps).to(tensor.dtype)


def _farthest(truth: Answers, several: Sequence[Answers]) -> Answers:
    """Of several answers, value by value, the one that is farthest from the truth."""
    outputs = [_far(value, [answers.outputs[place] for answers in several]) for place, value in enumerate(truth.outputs)]
    layers = Values()
    for path, value in truth.layers.items():
        known = [answers.layers[path] for answers in several if path in answers.layers]
        if known:
            layers[path] = _far(value, known)
    return Answers(outputs, layers)


def _far(truth: NDArray[Any], several: Sequence[NDArray[Any]]) -> NDArray[Any]:
    found = several[0]
    for other in several[1:]:
        if found.dtype.kind == "f" and found.shape == other.shape == truth.shape:
            with np.errstate(invalid="ignore"):  # NaN compares false
                found = np.where(distance(other, truth) > distance(found, truth), other, found)
    return found


def _halve(tensor: Tensor) -> Tensor:
    return tensor.half().to(tensor.dtype)
