"""A network that the caller has in memory: what it is called, what is wrapped around it, and a copy to work on.

Everything that deploykit does to a network (eval mode, hooks, float64, another `forward`) it does to the copy. The caller's own
keeps its mode, device, types, gradients and hooks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deploykit.errors import InputError, first_line

OWN_WEIGHTS = "weights: the module's own, as it was given"
_NARROW = (torch.float16, torch.bfloat16)


def name_of(module: nn.Module) -> str:
    """The name of its class, or of the class inside of a wrapper; "Network" for a class whose name cannot name a folder."""
    name = type(unwrapped(module, type(module).__name__)).__name__
    return name if name.isidentifier() else "Network"


def unwrapped(module: nn.Module, target: str) -> nn.Module:
    """The network inside what training put around it: `torch.compile`, `DataParallel`, `DistributedDataParallel`.

    Raises `InputError` for TorchScript, which cannot be exported.
    """
    while True:
        if isinstance(module, torch.jit.ScriptModule):
            raise InputError(f"{target} is a TorchScript module, which cannot be exported", "return the module it was made from")
        inner = getattr(module, "_orig_mod", None)  # torch.compile's wrapper, whose class only its compiler's import defines
        if inner is None and isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inner = module.module
        if not isinstance(inner, nn.Module):
            return module
        module = inner


def apart(module: nn.Module, target: str, own_types: bool = False) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy on the CPU in eval mode, with float32 in place of narrower weights; and what is to be said of it.

    `own_types`: narrower weights stay what they are, for a network that does not run otherwise.
    Raises `InputError` for a module that cannot be copied, and for one whose weights have no values.
    """
    inner = unwrapped(module, target)
    require_values(inner, target)
    memo: dict[int, object] = {id(t): _moved(t) for t in _tensors(inner) if t.device.type != "cpu" or not t.is_leaf}
    try:
        found = copy.deepcopy(inner, memo)
    except Exception as error:  # whatever the parts of somebody's network say of being copied
        raise InputError(
            f"{target} cannot be copied ({type(error).__name__}: {first_line(error, 120)}), and a copy is what is worked on",
            "name the class or function that makes it: package.module:callable",
        ) from error
    narrow = {p.dtype for p in found.parameters() if p.dtype in _NARROW}
    if not narrow:
        return found.eval(), ()
    if own_types:
        return found.eval(), ()
    types = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in narrow))
    return found.float().eval(), (f"the module's weights are {types}; float32 holds the same values, and is what was taken",)


def require_values(module: nn.Module, target: str) -> None:
    """Raise `InputError` for a network with weights on the meta device."""
    if any(tensor.is_meta for tensor in _tensors(module)):
        raise InputError(f"the weights of {target} have no values: they are on the meta device", "give it values first")


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    """Every tensor of a network: parameters, buffers, and what its code keeps beside them."""
    for part in module.modules():
        yield from (t for t in (*part._parameters.values(), *part._buffers.values()) if t is not None)
        yield from (value for value in vars(part).values() if isinstance(value, Tensor))


def _moved(tensor: Tensor) -> Tensor:
    """A copy on the CPU that can be changed. A tensor that was computed, as old weight norms keep theirs, cannot copy itself."""
    values = tensor.detach().to("cpu", copy=True)
    return nn.Parameter(values, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else values
