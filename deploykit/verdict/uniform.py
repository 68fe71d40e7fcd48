"""Is the file right where a mask hides everything or nothing, and where a sequence is nothing but padding?

Made-up masks hold both a one and a zero, made-up indices something else than 0. Uniform ones are tried here, apart from the rest:
which of the two values hides everything is not known, most networks answer NaN there, and PyTorch's attention gives zeros where
the operators of ONNX, by their definition, give NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from deploykit.errors import InputError
from deploykit.network.input_specs import InputSpec
from deploykit.verdict.batches import Batch
from deploykit.verdict.result import Check, Parting

NAME = "uniform masks"

Compared = Callable[[Batch], Parting | None]


def check(specs: Sequence[InputSpec], noise: Batch, compared: Compared) -> tuple[Check | None, Batch | None]:
    """The answer for masks and sequences of indices that hold one number; the batch on which the file is wrong.

    `noise`: values for all inputs; one input after the other is made uniform. `compared` tells how the file differs on a
    batch, if it does; it raises `InputError` where the network refuses the batch or answers NaN, which is no evidence.

    A file that differs where everything is hidden is right wherever something is left: the check passes and says where the file
    differs. Everything is hidden where one of the two uniform masks makes the file answer NaN and the other does not, or where
    it is 0, as in a mask of ones for what is there; one that differs at both is wrong. `None` without such inputs.
    """
    right = 0
    wrong: list[tuple[Batch, Parting]] = []
    limits: list[tuple[Batch, Parting]] = []
    places = [place for place, spec in enumerate(specs) if (spec.mask or spec.is_sequence) and spec.shape]
    for place in places:
        agreed, differing = _tried(specs[place], place, noise, compared)
        right += agreed
        for batch, how in differing:
            hides = how.has_nan or not batch.tensors[place].any()
            excused = not specs[place].mask or (agreed and hides)
            (limits if excused else wrong).append((batch, how))
    if wrong:
        batch, how = wrong[0]
        return Check(NAME, False, f"{batch.name}: {how.detail}"), batch
    if limits:
        told = " and ".join(batch.name for batch, _ in limits)
        return Check(NAME, True, f"the file differs from the network {told}: do not ask it there"), None
    return (Check(NAME, True, f"{right} tried") if right else None), None


def _tried(spec: InputSpec, place: int, noise: Batch, compared: Compared) -> tuple[int, list[tuple[Batch, Parting]]]:
    """How many uniform values of one input the file is right at, and the batches at which it is wrong, and how."""
    agreed, differing = 0, []
    for value in (0, 1) if spec.mask else (0,):
        tensors = list(noise.tensors)
        tensors[place] = torch.full_like(tensors[place], value)
        batch = replace(noise, name=f"where {spec.name} is {value} throughout", tensors=tuple(tensors))
        try:
            how = compared(batch)
        except InputError:
            continue
        if how:
            differing.append((batch, how))
        else:
            agreed += 1
    return agreed, differing
