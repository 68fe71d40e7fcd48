"""The size of an axis that a graph leaves open: one rule for whoever makes up an input.

In this order: what the user gave, the batch, what the contract says, the size of another axis of the same name, a default by
kind. The rule works on plain data and lies in `runtime`, which imports neither onnx nor anything above it and warms files up by
the same rule; `onnx_file.inputs` reads the axes out of an onnx graph for it, `of_session` out of a session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from deploykit.runtime.contract import Contract, ImageInput

IMAGE_SIDE = 64  # pixels: few networks shrink an image by more
USUAL = 8  # of what is no image: positions, frames, features
MOST_AXES = 6  # an input with more open axes would be too large

Axis = int | str | None  # a fixed size, the name of an open axis, or `None` for an open one without a name
Axes = tuple[Axis, ...]
Sizes = tuple[int | None, ...]  # `None`: not known


def axis(size: object, name: object = None) -> Axis:
    """An axis as a file writes it: a size below 0 is an open one (Paddle writes -1), 0 is a fixed size of 0."""
    if isinstance(size, int) and size >= 0:
        return size
    return name if isinstance(name, str) and name else None


def of_session(nodes: Iterable[Any]) -> dict[str, Axes]:
    """The axes by input, from `session.get_inputs()`: there a scalar and an input of unknown rank both have none."""
    return {node.name: tuple(axis(size, size) for size in node.shape or ()) for node in nodes}


def batch_axes(inputs: Mapping[str, Axes], contract: Contract | None = None) -> dict[str, int | None]:
    """Which axis of each input is the batch: `None` for an input without one, such as a scalar or one of fixed sizes.

    That is where the contract has it. Else the batch has the name of an axis that is called so (``batch``, ``batch_size``), or
    that of the first open first axis; an input without an axis of that name has the batch on its first axis, if that is open and
    no other axis has its name. Where no input has an open batch, it is the first axis if all have one size there.
    """
    name = _batch_name(inputs)
    firsts = {axes[0] if axes else None for axes in inputs.values()}
    if name is None and contract is None and len(firsts) == 1 and isinstance(next(iter(firsts)), int):
        return dict.fromkeys(inputs, 0)
    said = contract_sizes(inputs, contract)
    found: dict[str, int | None] = {}
    for key, axes in inputs.items():
        shape = said.get(key, ())
        if axes and len(shape) == len(axes):
            found[key] = shape.index(None) if None in shape else None
            continue
        called = axes.index(name) if name is not None and name in axes else None
        first = 0 if axes and _is_open(axes[0]) and not _is_elsewhere(axes[0], inputs) else None
        found[key] = first if called is None else called
    return found


def sizes(
    inputs: Mapping[str, Axes],
    batch: int = 1,
    given: Mapping[str, Sizes] | None = None,
    contract: Contract | None = None,
    otherwise: int | None = None,
) -> dict[str, tuple[int, ...]]:
    """The shape of each input, every size known. Arguments as for `known_sizes`; `otherwise` takes the place of the default.

    The default is `IMAGE_SIDE` in an input of four axes, else `USUAL`; of one name in several inputs, the smallest.
    """
    found = known_sizes(inputs, batch, given, contract)
    by_name: dict[str, int] = {}
    for axes in inputs.values():
        for each in axes:
            if isinstance(each, str):
                by_name[each] = min(by_name.get(each, IMAGE_SIDE), _default(axes))
    shapes = {}
    for key, axes in inputs.items():
        last = [otherwise or (by_name[each] if isinstance(each, str) else _default(axes)) for each in axes]
        shapes[key] = tuple(default if size is None else size for size, default in zip(found[key], last, strict=True))
    return shapes


def known_sizes(
    inputs: Mapping[str, Axes],
    batch: int | None = None,
    given: Mapping[str, Sizes] | None = None,
    contract: Contract | None = None,
) -> dict[str, Sizes]:
    """The shape of each input as far as somebody says it, `None` where nobody does.

    `given`: whole shapes of the user's, with `None` for what is left open; those of another rank than the input's are ignored, as
    are those of the contract. A size that the graph fixes stays what it is.
    """
    found = {key: [each if isinstance(each, int) else None for each in axes] for key, axes in inputs.items()}
    places = batch_axes(inputs, contract)
    batches = {key: tuple(batch if at == places[key] else None for at in range(len(axes))) for key, axes in inputs.items()}
    for said in (given or {}, batches, contract_sizes(inputs, contract)):
        for key, shape in said.items():
            if key in found and len(shape) == len(found[key]):
                found[key] = [new if old is None else old for old, new in zip(found[key], shape, strict=True)]
        _spread(inputs, found)
    return {key: tuple(shape) for key, shape in found.items()}


def contract_sizes(inputs: Mapping[str, Axes], contract: Contract | None) -> dict[str, Sizes]:
    """What the contract says: the images that the first input takes, and the shapes that the network was exported with."""
    if contract is None or not inputs:
        return {}
    images: dict[str, Sizes] = {}
    arrays: dict[str, Sizes] = {}
    for name, rules in contract.rules().items():
        key = next(iter(inputs)) if name is None else name
        if not isinstance(rules, ImageInput):
            arrays[key] = (None, *rules.shape)
        elif contract.preprocessing_in_graph:
            images[key] = (None, rules.height, rules.width, rules.channels)
        else:
            images[key] = (None, rules.channels, rules.height, rules.width)
    return {**arrays, **contract.example_sizes(), **images}


def _batch_name(inputs: Mapping[str, Axes]) -> str | None:
    called = (each for axes in inputs.values() for each in axes if isinstance(each, str) and "batch" in each.lower())
    first = (axes[0] for axes in inputs.values() if axes and isinstance(axes[0], str))
    return next(called, next(first, None))


def _is_open(each: Axis) -> bool:
    return not isinstance(each, int)


def _is_elsewhere(name: Axis, inputs: Mapping[str, Axes]) -> bool:
    """Whether an axis that is not the first one has this name."""
    return name is not None and any(name in axes[1:] for axes in inputs.values())


def _spread(inputs: Mapping[str, Axes], found: Mapping[str, list[int | None]]) -> None:
    """Give axes whose size is not known the size of the first axis of the same name, in place."""
    by_name: dict[str, int] = {}
    for each, shape, place in _named(inputs, found):
        size = shape[place]
        if size is not None:
            by_name.setdefault(each, size)
    for each, shape, place in _named(inputs, found):
        if shape[place] is None:
            shape[place] = by_name.get(each)


def _named(inputs: Mapping[str, Axes], found: Mapping[str, list[int | None]]) -> Iterator[tuple[str, list[int | None], int]]:
    for key, axes in inputs.items():
        yield from ((each, found[key], place) for place, each in enumerate(axes) if isinstance(each, str))


def _default(axes: Axes) -> int:
    if len(axes) > MOST_AXES:
        return 1
    return IMAGE_SIDE if len(axes) == 4 else USUAL
