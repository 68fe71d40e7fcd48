"""Refuse values that the graph does not take, and contracts that do not describe the graph, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from deploykit.errors import ContractError, InputError, kind_of
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput
from deploykit.runtime.output_checks import at_odds, check_output
from deploykit.runtime.session import TensorSpec, dtype_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_value(value: object, spec: TensorSpec, finite: bool = True, batched: bool = True) -> None:
    """Raise `InputError` unless `value` is what the input takes: an array, or for a sequence a list of arrays.

    `finite`: no NaN, no infinity; `batched`: the first axis, if it is free, holds samples, of which there must be one. Any
    other kind of value (optional ones, maps) goes to onnxruntime as it is.
    """
    kind = spec.type.partition("(")[0]
    if kind == "seq":
        _check_sequence(value, spec, finite)
    elif kind == "tensor":
        _check_array(value, spec, finite, batched)


def _check_sequence(values: object, spec: TensorSpec, finite: bool) -> None:
    if not isinstance(values, list):
        raise InputError(f"the input {spec} cannot be {kind_of(values)}", "give a list of arrays")
    dtype = dtype_of(spec.type.removeprefix("seq(").removesuffix(")"))
    for place, array in enumerate(values):
        if not isinstance(array, np.ndarray) or (dtype is not None and array.dtype != dtype):
            what = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise InputError(f"the input {spec} cannot hold {what} at place {place}", f"give arrays of {dtype or 'one type'}")
        if finite and array.dtype.kind == "f":
            check_finite(array, f"the input {spec}, place {place},")


def _check_array(array: object, spec: TensorSpec, finite: bool, batched: bool) -> None:
    """Raise `InputError` unless `array` is a numpy array of the spec's dtype, rank and sizes."""
    if not isinstance(array, np.ndarray):
        raise InputError(f"the input {spec} cannot be {kind_of(array)}", "give a numpy array")
    if spec.dtype is not None and array.dtype != spec.dtype:
        raise InputError(f"the input {spec} cannot be {array.dtype}", f"convert it: array.astype({spec.dtype.name!r})")
    if spec.shape is not None:
        if array.ndim != len(spec.shape):
            hint = "a batch of one is array[None]" if array.ndim == len(spec.shape) - 1 else ""
            raise InputError(
                f"the input {spec} cannot have shape {array.shape}: {array.ndim} axes instead of {len(spec.shape)}", hint
            )
        for axis, (size, wanted) in enumerate(zip(array.shape, spec.shape, strict=True)):
            if wanted is not None and size != wanted:
                raise InputError(f"the input {spec} cannot have shape {array.shape}: axis {axis} must be {wanted}")
    if batched and array.ndim and array.shape[0] == 0 and (spec.shape is None or spec.shape[0] is None):
        raise InputError(f"the input {spec} is empty: shape {array.shape}", "give at least one sample")
    if finite and array.dtype.kind == "f":
        check_finite(array, f"the input {spec}")


def check_finite(array: NDArray[Any], what: str) -> None:
    """Raise `InputError` naming the first value that is NaN or infinite."""
    good = np.isfinite(array)
    if not good.all():
        place = tuple(int(i) for i in np.argwhere(~good)[0])
        raise InputError(f"{what} has {array[place]} at {place}", "clean it, or pass check_finite=False to let it through")


def check_contract(contract: Contract, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
    """Raise `ContractError` where the contract and the graph are at odds."""
    if not contract.inputs and (not inputs or (len(inputs) > 1 and isinstance(contract.input, ImageInput))):
        at_odds("one input", f"{len(inputs)} inputs")
    if not outputs:
        at_odds("an output", "none")
    known = {spec.name: spec for spec in inputs}
    if contract.inputs and set(contract.inputs) != set(known):
        at_odds(f"the inputs {', '.join(contract.inputs)[:200]}", ", ".join(map(str, inputs)) or "none")
    sizes = contract.example_sizes()
    for name, rules in contract.rules().items():
        spec = inputs[0] if name is None else known[name]
        whole = sizes.get(name or "")
        place = 0 if whole is None or isinstance(rules, ImageInput) else whole.index(None) if None in whole else None
        _check_input(rules, spec, contract.preprocessing_in_graph, 0 if name is None else place)
    check_output(contract.output, outputs)
    for name in contract.meanings:
        if all(spec.name != name for spec in outputs):
            at_odds(f"an output {name!r:.80}", ", ".join(spec.name for spec in outputs)[:200])


def _check_input(rules: ImageInput | ArrayInput, spec: TensorSpec, embedded: bool, batch: int | None) -> None:
    """`batch`: where the batch lies in the whole array, `None` for an input without one."""
    if isinstance(rules, ImageInput):
        wanted: tuple[int | None, ...] = (rules.channels, rules.height, rules.width)
        if embedded:
            wanted = (None, None, rules.channels)
        kinds = "u" if embedded else "f"
    else:
        if embedded:
            at_odds("preprocessing in the graph", "an input that is no image")
        wanted = rules.shape
        kinds = _kind_of(rules.dtype)
    if spec.dtype is None or spec.dtype.kind != kinds or (embedded and spec.dtype != np.uint8):
        at_odds({"u": "uint8", "f": "floating point"}.get(kinds, "another type of") + " input", f"{spec}")
    if spec.shape is not None:
        _check_sizes(wanted if batch is None else (*wanted[:batch], None, *wanted[batch:]), spec.shape, f"{spec}", embedded, batch)


def _check_sizes(
    wanted: tuple[int | None, ...], found: tuple[int | None, ...], what: str, embedded: bool, batch: int | None
) -> None:
    """Whole shapes, `None` for the batch and for what may have any size."""
    if len(found) != len(wanted):
        at_odds(f"an input of {len(wanted)} axes", what)
    for axis, (have, want) in enumerate(zip(found, wanted, strict=True)):
        if axis != batch and want is not None and have is not None and have != want:
            at_odds(f"{want} along axis {axis} of the input", what)
        if axis != batch and want is None and have is not None and embedded:
            at_odds("images of any size", what)


def _kind_of(dtype: str) -> str:
    try:
        kind: str = np.dtype(dtype).kind
    except TypeError:
        kind = "?"
    if kind not in "fiub":
        raise ContractError(f"the contract's dtype {dtype!r} is no type of number", "export the file again")
    return kind
