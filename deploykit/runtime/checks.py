"""Refuse values that the graph does not take, and contracts that do not describe the graph, in one line each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from deploykit.errors import ContractError, InputError
from deploykit.runtime.contract import Contract, ImageInput
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
        raise InputError(f"the input {spec} cannot be a {type(values).__name__}", "give a list of arrays")
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
        raise InputError(f"the input {spec} cannot be a {type(array).__name__}", "give a numpy array")
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
    if not inputs or (len(inputs) > 1 and isinstance(contract.input, ImageInput)):
        _at_odds("one input", f"{len(inputs)} inputs")
    if not outputs:
        _at_odds("an output", "none")
    _check_input(contract, inputs[0])
    _check_output(contract, outputs[0])


def _check_input(contract: Contract, spec: TensorSpec) -> None:
    rules = contract.input
    if isinstance(rules, ImageInput):
        if contract.preprocessing_in_graph:
            wanted: tuple[int | None, ...] = (None, None, None, rules.channels)
            kinds = "u"
        else:
            wanted = (None, rules.channels, rules.height, rules.width)
            kinds = "f"
    else:
        if contract.preprocessing_in_graph:
            _at_odds("preprocessing in the graph", "an input that is no image")
        wanted = (None, *rules.shape)
        kinds = _kind_of(rules.dtype)
    if (
        spec.dtype is None
        or spec.dtype.kind != kinds
        or (kinds == "u" and contract.preprocessing_in_graph and spec.dtype != np.uint8)
    ):
        _at_odds({"u": "uint8", "f": "floating point"}.get(kinds, "another type of") + " input", f"{spec}")
    if spec.shape is None:
        return
    if len(spec.shape) != len(wanted):
        _at_odds(f"an input of {len(wanted)} axes", f"{spec}")
    for axis, (have, want) in enumerate(zip(spec.shape, wanted, strict=True)):
        if axis and want is not None and have is not None and have != want:
            _at_odds(f"{want} along axis {axis} of the input", f"{spec}")
        if axis and want is None and have is not None and contract.preprocessing_in_graph:
            _at_odds("images of any size", f"{spec}")


def _check_output(contract: Contract, spec: TensorSpec) -> None:
    labels, activation = contract.output.labels, contract.output.activation
    if labels is None and activation == "none":
        return
    if spec.dtype is None or spec.dtype.kind != "f":
        _at_odds("scores as output", f"{spec}")
    if spec.shape is None:
        return
    if len(spec.shape) != 2:
        _at_odds("one row of scores per sample", f"{spec}")
    if labels is not None and spec.shape[1] not in (None, len(labels)):
        _at_odds(f"{len(labels)} labels", f"{spec}")


def _kind_of(dtype: str) -> str:
    try:
        kind: str = np.dtype(dtype).kind
    except TypeError:
        kind = "?"
    if kind not in "fiub":
        raise ContractError(f"the contract's dtype {dtype!r} is no type of number", "export the file again")
    return kind


def _at_odds(contract: str, graph: str) -> NoReturn:
    raise ContractError(
        f"the contract and the graph are at odds: the contract says {contract}, the graph has {graph}", "export the file again"
    )
