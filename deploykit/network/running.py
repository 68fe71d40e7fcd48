"""A forward pass of a network: on which device, with which attention, and what is said when it raises."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from deploykit.errors import DeviceUnavailable, InputError, first_line
from deploykit.network import control_flow, first_calls
from deploykit.runtime.providers import parse_device

# What torch says of arguments, values, types and memory; anything else that it raises is taken for a matter of shapes.
_ARGUMENTS = re.compile(r"positional argument|keyword(-only)? argument|multiple values for argument")
_TYPES = re.compile(r"dtype|scalar type|not implemented for '|type .* should be the same|can't be cast|used as indices")
_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate|cannot allocate", re.I)
_SHAPES = (RuntimeError, ValueError, IndexError, AssertionError)

EXAMPLES = "give values as they occur: --inputs FILE.npz, or `example_inputs` on the module"


def torch_device(device: str) -> torch.device:
    """Such as "cuda:1". Raises `DeviceUnavailable`, `InputError`."""
    kind, number = parse_device(device)
    there = torch.cuda.is_available() and number < torch.cuda.device_count()
    if kind == "cpu" or (kind == "auto" and not there):
        return torch.device("cpu")
    if not there:
        raise DeviceUnavailable(device, "PyTorch has no such device")
    return torch.device("cuda", number)


@contextmanager
def plain_attention() -> Iterator[None]:
    """nn.Transformer and nn.MultiheadAttention without their fast path within the block.

    It runs on nested tensors, which have no sizes to be traced, inside of one operator that has no formula and no modules.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's random numbers begin at `seed` within the block; afterwards the caller's go on as if nothing had been."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def run(module: nn.Module, inputs: Sequence[Tensor], name: str = "the network") -> Any:
    """One forward pass without gradients and without the fast path of attention. Raises `InputError`, see `refusal`."""
    with torch.no_grad(), plain_attention(), control_flow.uncompiled():
        try:
            with first_calls.watched(module):
                return module(*inputs)
        except (Exception, SystemExit) as error:  # whatever the network's own code raises
            raise refusal(error, module, [tensor.shape for tensor in inputs], name) from error


def refusal(
    error: Exception | SystemExit, module: nn.Module, shapes: Sequence[Sequence[int]], name: str = "the network"
) -> InputError:
    """What to say of a `module` that raised `error` on inputs of these whole shapes.

    Names the shapes, the innermost module that was running, what was raised, and what helps against that. `name`: of the network.
    """
    where = failing_module(error, module)
    if isinstance(error, SystemExit):
        hint = "its code would end the process: let it raise an error instead"
        return InputError.of_shapes(name, shapes, f"it called sys.exit({error.code!r})", hint, where)
    return InputError.of_shapes(name, shapes, first_line(error), _hint(error, where), where)


def failing_module(error: BaseException, module: nn.Module) -> str:
    """The path of the innermost part of `module` that was running when `error` was raised; "" for the whole.

    Read from the traceback: a module runs in a function whose `self` it is.
    """
    paths = {id(child): path for path, child in module.named_modules()}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        found = paths.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found


def _hint(error: Exception, where: str) -> str:
    """What helps against an error that was raised in the part at `where`."""
    text = str(error)
    if isinstance(error, TypeError) and _ARGUMENTS.search(text) and not where:
        return f"give one --input-shape for each argument of forward(), in order, or {EXAMPLES}"
    if isinstance(error, MemoryError) or _MEMORY.search(text):
        return "choose a smaller --input-shape or batch"
    if isinstance(error, IndexError) and "index out of range" in text:
        return f"whole numbers that are no index of its tables were tried; {EXAMPLES}"
    if isinstance(error, (*_SHAPES, TypeError)) and _TYPES.search(text):
        return f"choose another --input-dtype, or {EXAMPLES}"
    if isinstance(error, _SHAPES):
        return f"choose another --input-shape, or {EXAMPLES}"
    return f"its own code raised {type(error).__name__}: call it in Python with such an input, or see --debug"
