"""The head of a network: the layer that makes its outputs, found by watching a forward pass; and another width for it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from deploykit.errors import CheckpointError, InputError
from deploykit.network import outputs
from deploykit.network.running import run

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
MOST_OUTPUTS = 1 << 20
MOST_SPARE = 1 << 26  # elements of the layer that a head replaced


@dataclass(frozen=True)
class Head:
    """A layer that was put in place of a network's own: `module` is its path, `outputs` its width, `before` that of the old one.

    `scaled`: its outputs are multiplied and shifted by `Scale`, so that a regression learns numbers around zero.
    """

    module: str
    outputs: int
    before: int
    scaled: bool = False

    def document(self) -> dict[str, Any]:
        """As a checkpoint's header keeps it."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Head:
        """Back from a header, which may be a stranger's. Raises `ValueError` or `TypeError`."""
        head = cls(**document)
        whole = all(type(n) is int and 1 <= n <= MOST_OUTPUTS for n in (head.outputs, head.before))
        if not whole or not isinstance(head.module, str) or type(head.scaled) is not bool:
            raise ValueError("no head of a network")
        return head

    def spare(self, tensors: Mapping[str, Tensor]) -> int:
        """How many elements the replaced layer had at most, told from the weights of the new one."""
        name = f"{self.module}.linear.weight" if self.scaled else f"{self.module}.weight"
        weight = tensors.get(name)
        row = 0 if weight is None else weight.numel() // max(1, self.outputs)
        return min(self.before * (row + 1), MOST_SPARE)


class Scale(nn.Module):
    """(batch, outputs) -> the same, times `factor`, plus `offset`: from numbers around zero to the user's own unit."""

    factor: Tensor
    offset: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.register_buffer("factor", torch.ones(outputs))
        self.register_buffer("offset", torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply and shift each output."""
        return x * self.factor + self.offset


def first(answer: Any) -> Tensor:
    """The first of a network's outputs, which is the one that is trained and deployed. Raises `InputError` where there is none."""
    return answer if isinstance(answer, Tensor) else next(iter(outputs.named(answer).values()))


def watch(network: nn.Module, example: Tensor, name: str) -> tuple[Tensor, str]:
    """The first output for `example`, and the path of the layer that makes it; "" where no layer can be told.

    That is the last one to run, of those as wide as the output, if it runs once. Raises `InputError` for a network that raises.
    """
    ran: list[str] = []
    layers = {path: part for path, part in network.named_modules() if isinstance(part, LAYERS)}
    hooks = [part.register_forward_hook(_noting(ran, path)) for path, part in layers.items()]
    try:
        output = first(run(network, [example], name))
    finally:
        for hook in hooks:
            hook.remove()
    channels = output.shape[1] if output.ndim > 1 else 1
    times = Counter(ran)
    wide = [path for path in ran if width(layers[path]) == channels and _replaceable(layers[path])]
    return output, wide[-1] if wide and times[wide[-1]] == 1 else ""


def width(layer: nn.Module) -> int:
    """How many outputs or channels a layer of `LAYERS` has."""
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)  # type: ignore[arg-type]


def describe(layer: nn.Module) -> str:
    """Such as "Linear, 1024 -> 1000"."""
    given = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    kind = next(kind for kind in LAYERS if isinstance(layer, kind))
    return f"{kind.__name__}, {given} -> {width(layer)}"


def replace(network: nn.Module, head: Head) -> None:
    """Put a fresh layer of `head.outputs` in the place of the one at `head.module`. Raises `InputError` where there is none."""
    try:
        old = network.get_submodule(head.module)
    except AttributeError as error:
        raise InputError(f"the network has no layer {head.module[:80]!r}, which was its head", "is it another network?") from error
    if not head.module or not isinstance(old, LAYERS) or not _replaceable(old) or width(old) != head.before:
        raise InputError(f"the layer {head.module[:80]!r} is not the head that it was", "is it another network?")
    parent, _, name = head.module.rpartition(".")
    fresh: nn.Module = _like(old, head.outputs)
    if head.scaled:
        fresh = nn.Sequential(OrderedDict(linear=fresh, scale=Scale(head.outputs)))
    setattr(network.get_submodule(parent), name, fresh)


def rescale(network: nn.Module, head: Head, factor: Tensor, offset: Tensor) -> None:
    """Give the `Scale` of a scaled head its numbers, (outputs,) each."""
    scale = cast(Scale, network.get_submodule(f"{head.module}.scale"))
    scale.factor.copy_(factor)
    scale.offset.copy_(offset)


def require_replaced(network: nn.Module, head: Head, source: str) -> None:
    """As `replace`, for a head that a checkpoint names. Raises `CheckpointError`."""
    try:
        replace(network, head)
    except InputError as error:
        raise CheckpointError(f"{source} does not fit: {error.problem}", error.hint) from error


def _noting(ran: list[str], path: str) -> Any:
    def note(*_: object) -> None:
        ran.append(path)

    return note


def _replaceable(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or getattr(layer, "groups", 0) == 1


def _like(old: Any, outputs: int) -> nn.Module:
    """A fresh layer that differs in nothing but its width."""
    biased = old.bias is not None
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, outputs, biased)
    names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    sizes: dict[str, Any] = {name: getattr(old, name) for name in names}
    if isinstance(old, nn.ConvTranspose2d):
        sizes["output_padding"] = old.output_padding
        return nn.ConvTranspose2d(old.in_channels, outputs, bias=biased, **sizes)
    return nn.Conv2d(old.in_channels, outputs, bias=biased, **sizes)
