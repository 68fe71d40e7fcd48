"""The PyTorch network's own answers: in float32 as the user runs it, in float64, and in the file's own precision."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploykit.network import control_flow, first_calls
from deploykit.network import outputs as network_outputs
from deploykit.network.running import run
from deploykit.verdict.batches import Batch
from deploykit.verdict.comparison import compare, distance
from deploykit.verdict.long_sums import PlainSums
from deploykit.verdict.precision import Precision
from deploykit.verdict.rounding import rounded
from deploykit.verdict.ties import InOrder
from deploykit.verdict.values import Values
from deploykit.verdict.widening import widened

LONG_SUM = 256  # terms; a shorter sum loses no more in one order of its terms than in another
FEW_VALUES = 64  # output values; so few may by luck all be nearer to float64 than float32 usually is
SHAKEN_RUNS = 3
JUMP = 1e-8  # relative to the scale of an output; float64 holds 16 digits, of which magnified rounding takes a few


@dataclass(frozen=True)
class Answers:
    """Outputs in order, and the output of every module call by path; the second call of ``fc`` is ``fc@1``."""

    outputs: list[NDArray[Any]]
    layers: Values


@dataclass(frozen=True)
class Observation:
    """The network's own answers to one batch, in each arithmetic that a file is held against.

    `float64`: what all other answers are measured from; the answers in float32 where the network cannot run in float64.
    `float32`: as the user runs it. `tolerance_reference`: the answers whose distance from `float64` decides how far the file may
    be off: `float32`, or the network rounded to float16 where the file is, or with long sums added up one after the other; where
    there are few output values, and where it is shaken, each value is the one of several float32 answers that is
    farthest from `float64`.
    """

    batch: Batch
    float64: Answers
    float32: Answers
    tolerance_reference: Answers

    @property
    def has_numbers(self) -> bool:
        """Whether an output in float64 holds a finite number, or no element at all."""
        return any(has_numbers(array) for array in self.float64.outputs)

    @property
    def overflows(self) -> bool:
        """Whether an output that is finite in float64 is infinite or NaN in the file's own precision."""
        return any(bool((np.isfinite(truth) & ~np.isfinite(own)).any()) for truth, own in self._float_outputs())

    @property
    def undefined(self) -> bool:
        """Whether an output that is infinite or NaN in float64 is anything else in the file's own precision."""
        return any(bool((~np.isfinite(truth) & (distance(truth, own) != 0)).any()) for truth, own in self._float_outputs())

    def _float_outputs(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        """Each output in float64 and as the tolerance reference has it."""
        for truth, own in zip(self.float64.outputs, self.tolerance_reference.outputs, strict=True):
            if truth.dtype.kind == "f" and truth.shape == own.shape:
                yield truth, own

    @property
    def layers(self) -> list[str]:
        """Paths of the module calls that every precision made: a loop that ends on a value may turn once more in one of them."""
        others = (self.float32.layers, self.tolerance_reference.layers)
        return [path for path in self.float64.layers if all(path in layers for layers in others)]


def has_numbers(array: NDArray[Any]) -> bool:
    """Whether a value is finite; an array without elements has none that is not."""
    return not array.size or bool(np.isfinite(array).any())


class Reference:
    """The network in eval mode, asked in two precisions, or three where the file is float16. Its weights come back untouched."""

    def __init__(self, module: nn.Module, precision: Precision = "fp32") -> None:
        self.module = module.eval()
        self.precision = precision
        self.no_float64 = ""  # why there is no float64, where there is none
        self.taken: dict[str, set[bool]] = {}  # the sides of each torch.cond that were taken in float32
        self.changed = first_calls.written(module)  # buffers and parameters that a forward pass wrote to
        self.in_order = False  # whether equal numbers are taken in the order of ONNX, see `ties`
        self.output_names: tuple[str, ...] = ()  # by which it gave its outputs last

    def observe(self, batches: Sequence[Batch], with_layers: Container[str]) -> list[Observation]:
        """Ask every batch in each arithmetic; layers are kept for the batches named in `with_layers`.

        1. In float32, as the user runs it; how long the sums are is noted on the way. Where the network takes the largest of
           several numbers, equal ones are in the order of ONNX, here and from now on.
        2. The tolerance reference: float32 again with long sums added up one after the other, or rounded to float16.
        3. In float64; a network that cannot have it is measured from its float32 answers.
        4. Where there are few output values, or no float64, each observation is shaken, as in `shaken`.
        """
        ask = partial(self._ask_all, batches, with_layers)
        with PlainSums(active=False) as sums:
            float32 = ask()
        if "topk" in sums.operators and not self.in_order:
            self.in_order = True
            float32 = ask()
        for place, sides in sums.taken.items():
            self.taken.setdefault(place, set()).update(sides)
        reference = float32
        if self.precision == "fp32" and sums.longest > LONG_SUM:
            with PlainSums():
                reference = ask()
        if self.precision == "fp16":
            with rounded(self.module):
                reference = ask(_round_to_float16)
        float64 = self._in_float64(ask)
        found = [Observation(*row) for row in zip(batches, float64 or float32, float32, reference, strict=True)]
        few = sum(array.size for answers in float32 for array in answers.outputs) < FEW_VALUES
        if self.precision != "fp32" or not (few or float64 is None):
            return found
        return [self._shaken(each) if float64 is None else self._of_few_values(each) for each in found]

    def shaken(self, observation: Observation) -> Observation | None:
        """The same observation, with the network asked in float32 for inputs that differ in their last bit too.

        Of all these answers the one that is farthest from float64, value by value, is the tolerance reference. What so small a
        change moves is nothing but rounding, which a network may magnify: a norm over equal numbers does by 1 / sqrt(eps).

        `None` where it jumps instead, as a number that is rounded at .5 does: in float64 its answers follow the last bit of the
        inputs by more than `JUMP`. And where that cannot be seen, without float64 or in float16.
        """
        if self.precision != "fp32" or self.no_float64:
            return None
        batch, layers = observation.batch, bool(observation.float32.layers)
        moved = self._in_float64(lambda convert: [self.ask(_each(batch, lambda tensor: _perturb(0, convert(tensor))), layers)])
        return None if moved is None or _jumps(observation.float64, moved[0]) else self._shaken(observation)

    def _of_few_values(self, observation: Observation) -> Observation:
        """Shaken, also where the network draws random numbers; as it is where it jumps."""
        shaken = self.shaken(observation)
        if shaken is not None:
            return shaken
        again = self.ask(observation.batch.tensors).outputs
        is_random = not all(map(np.array_equal, again, observation.float32.outputs))
        return self._shaken(observation) if is_random else observation

    def _shaken(self, observation: Observation) -> Observation:
        batch, layers = observation.batch, bool(observation.float32.layers)
        several = [self.ask(_each(batch, partial(_perturb, seed)), layers) for seed in range(SHAKEN_RUNS)]
        reference = _farthest(observation.float64, [observation.tolerance_reference, *several])
        return replace(observation, tolerance_reference=reference)

    @property
    def note(self) -> str:
        """What is to be said of how the network was asked: no float64, branches that it never took."""
        return "; ".join(filter(None, (self.no_float64, control_flow.one_sided(self.taken))))

    def _ask_all(
        self, batches: Sequence[Batch], with_layers: Container[str], convert: Callable[[Tensor], Tensor] | None = None
    ) -> list[Answers]:
        """One run per batch; `convert` is applied to its floating inputs."""
        return [self.ask(_each(batch, convert) if convert else batch.tensors, batch.name in with_layers) for batch in batches]

    def _in_float64(self, ask: Callable[[Callable[[Tensor], Tensor]], list[Answers]]) -> list[Answers] | None:
        """`ask` with the network in float64; `None`, and a note, for a network that insists on float32 inside."""
        for sparing in (True, False):
            try:
                with widened(self.module, sparing):
                    return ask(Tensor.double)
            except Exception as error:  # whatever a network raises of types that it did not expect
                kind = type(error.__cause__ or error).__name__
        self.no_float64 = f"no float64 reference: {kind}; PyTorch in float32 stands in for it"
        return None

    def ask(self, tensors: Sequence[Tensor], layers: bool = False) -> Answers:
        """One run with the weights as they are now. Raises `InputError` with what the network says of its inputs."""
        found = Values()
        before = first_calls.versions(self.module)
        with _recording(self.module, found) if layers else nullcontext(), InOrder() if self.in_order else nullcontext():
            outputs = run(self.module, [tensor.clone() for tensor in tensors])  # a network may write into its inputs
        after = first_calls.versions(self.module)
        self.changed |= {name for name, version in after.items() if before.get(name) != version}
        named = network_outputs.named(outputs)
        network_outputs.require_real(named)
        self.output_names = tuple(named)
        return Answers(network_outputs.arrays(outputs), found)


def _main_output(owner: nn.Module, output: Any) -> Any:
    """The tensor by which a graph calls a module: its only one, or the first one of a recurrent layer or of attention.

    Of any other several tensors none is kept: which of them has the module's name is not known.
    """
    if not isinstance(output, tuple) or not output:
        return output
    several = sum(isinstance(each, Tensor) for each in output) > 1
    return None if several and not isinstance(owner, (nn.RNNBase, nn.MultiheadAttention)) else output[0]


def _is_of_many(tensor: Tensor) -> bool:
    """Whether it stands for the rows of a batch inside of torch.vmap, where it has no numbers of its own."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


@contextmanager
def _recording(module: nn.Module, found: Values) -> Iterator[None]:
    """Keep what every module gives back."""
    calls: dict[str, int] = {}

    def keep(owner: nn.Module, output: Any) -> None:
        path = paths[id(owner)]
        count = calls.get(path, 0)
        calls[path] = count + 1
        first = _main_output(owner, output)
        if isinstance(first, Tensor) and not _is_of_many(first):
            found[f"{path}@{count}" if count else path] = network_outputs.to_numpy(first)

    paths = {id(child): path for path, child in module.named_modules()}
    hooks = [
        child.register_forward_hook(lambda owner, _args, output: keep(owner, output))
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


def _perturb(seed: int, tensor: Tensor) -> Tensor:
    """Each value moved by its last bit, up or down: what this changes in the answer is nothing but rounding."""
    signs = torch.randint(0, 2, tensor.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return tensor * (1 + signs * torch.finfo(tensor.dtype).eps).to(tensor.dtype)


def _jumps(truth: Answers, moved: Answers) -> bool:
    """Whether an answer in float64, or the output of a module, follows the last bit of the inputs by more than `JUMP`."""
    pairs = [*zip(truth.outputs, moved.outputs, strict=True)]
    pairs += [(truth.layers[path], value) for path, value in moved.layers.items() if path in truth.layers]
    return not all(compare(value, other, other).torch_error <= JUMP for value, other in pairs if value.dtype.kind == "f")


def _farthest(truth: Answers, several: Sequence[Answers]) -> Answers:
    """Of several answers, value by value, the one that is farthest from `truth`, the answers in float64."""
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


def _round_to_float16(tensor: Tensor) -> Tensor:
    return tensor.half().to(tensor.dtype)
