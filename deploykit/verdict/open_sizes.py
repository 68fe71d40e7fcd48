"""Is the file right at every size that it leaves open? It is tried at sizes that differ in kind, and on both sides of every guard.

Where the network itself refuses a size, a file may do as it likes. What cannot be tried is said, not passed over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import onnx
import torch
from torch import Tensor

from deploykit.errors import DeploykitError
from deploykit.network.batch_axes import BATCH
from deploykit.network.capturing import Guard
from deploykit.network.input_specs import InputSpec
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.verdict import file_sizes
from deploykit.verdict.batches import Batch
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.guard_sides import Sizes
from deploykit.verdict.result import Check, Parting
from deploykit.verdict.sizes import Trial, bearable, trials

NAME = "sizes"
ROWS = 2
MOST_WORK = 48  # elements of all trials together, beside those of the example
MOST_CORNER = 16  # elements of the largest sizes together that are always tried, beside those of the example
SMALL = 1 << 14  # elements that take no time in any network
MOST_NAMED = 3  # guards in one message
MOST_EXPLORED = 6  # sides of branches that are traced again for branches behind them

Axes = tuple[Mapping[int, str], ...]
Compared = Callable[[Batch], Parting | None]
Ranges = Mapping[str, tuple[int, int]]  # axis -> smallest and largest size
GuardsAt = Callable[[Sizes], Sequence[Guard]]


class Network(Protocol):
    """What must be known of a network to try a file at other sizes."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Each without the batch."""

    def guards(self, axes: Axes, sizes: Sizes) -> Sequence[Guard]:
        """Its conditions on open axes, traced at `sizes`; raises whatever tracing raises."""

    def line_of(self, guard: Guard, axes: Axes, sizes: Sizes) -> str:
        """The line of code that asks for the sizes of a guard, empty where nobody knows."""


@dataclass
class Tried:
    """What became of the trials.

    `untried`: how many were left out beyond `MOST_WORK`. `differs`: the first one at which the file is wrong, and how. `undecided`:
    remarks.
    """

    agreed: list[Trial] = field(default_factory=list)
    refused: list[Trial] = field(default_factory=list)
    untried: int = 0
    differs: tuple[Trial, Parting, Batch] | None = None
    undecided: list[str] = field(default_factory=list)

    def ranges(self, base: Sizes, rows: Collection[int]) -> dict[str, tuple[int, int]]:
        """Per axis, the smallest and the largest size at which the file was seen to be right, also at batches of `rows`."""
        batches = [{**base, BATCH: count} for count in rows] if BATCH in base else []
        seen = [base, *batches, *(trial.sizes for trial in self.agreed)]
        return {name: (min(s[name] for s in seen), max(s[name] for s in seen)) for name in base}


def check(
    network: Network,
    values: Sequence[onnx.ValueInfoProto],
    guards: Sequence[Guard] | None,
    compared: Compared,
    rows: Collection[int] = (),
    files: Sequence[Deployed] = (),
) -> tuple[Check | None, Ranges, Batch | None]:
    """The answer for a graph with the inputs `values`; per open axis the sizes between which it was right; where it was wrong.

    `guards`: those of the network, `None` to trace it here. `compared` tells how the file differs on a batch, if it
    does; it raises where the network itself refuses the batch. `rows`: batch sizes at which it agreed already. `files`: those
    that are compared, which may ask for sizes themselves. `None` where no axis is open.
    """
    axes = open_axes(values, network.inputs)
    base = base_sizes(network.inputs, axes)
    if not base:
        return None, {}, None
    remark = ""
    if guards is None:
        try:
            guards = network.guards(axes, base)
        except Exception as error:  # whatever torch.export or the network's own code raises
            guards, remark = (), f"torch.export cannot trace the network ({type(error).__name__}): its branches are not known"
    example = Batch("the example", at(network.inputs, axes, base, torch.Generator().manual_seed(0)))
    of_file, left_out = file_sizes.trials(files, base, example)
    tried = try_sizes(network.inputs, axes, guards, compared, partial(network.guards, axes), rows, of_file)
    if left_out:
        tried.undecided.append(f"{left_out} more sizes that the file asks for were not tried")
    ranges = tried.ranges(base, rows)
    if tried.differs is None:
        return Check(NAME, True, _proven(tried, ranges, remark)), ranges, None
    trial, how, batch = tried.differs
    wrong = f"wrong at {trial}: {how.detail}"
    if not trial.guards:
        return Check(NAME, False, "; ".join(filter(None, (wrong, trial.reason)))), ranges, batch
    asked = []
    for guard in trial.guards[:MOST_NAMED]:
        line = network.line_of(guard, axes, base)
        asked.append(f"{guard.text} ({line})" if line else guard.text)
    return Check(NAME, False, f"{wrong}; the network branches on {' and on '.join(asked)}, the file holds one side"), ranges, batch


def _proven(tried: Tried, ranges: Ranges, remark: str) -> str:
    """The sizes in words, and what could not be tried."""
    proven = ", ".join(f"{name} {low}..{high}" if low < high else f"{name} {low}" for name, (low, high) in ranges.items())
    single = [name for name, (low, high) in ranges.items() if low == high and name != BATCH]
    count = len(tried.agreed)
    parts = [f"proven for {proven}" + (f": {count} other size{'s' * (count > 1)} tried" if count else "")]
    if tried.refused:
        parts.append(f"the network refuses {len(tried.refused)}")
    if tried.untried:
        parts.append(f"{tried.untried} larger ones left out, they take too long")
    parts += [_alone(tried, name, ranges[name][0]) for name in single]
    return "; ".join((*parts, *tried.undecided, *filter(None, [remark])))


def _alone(tried: Tried, name: str, size: int) -> str:
    """Why no other size of an axis is proven."""
    refused = any(trial.sizes[name] != size for trial in tried.refused)
    return f"the network takes no other {name}" if refused else f"no other {name} was tried"


def open_axes(values: Sequence[onnx.ValueInfoProto], specs: Sequence[InputSpec]) -> Axes:
    """Per input, the axes that a graph leaves open and their names: ``batch``, what the file calls it, or ``input:2``."""
    found = []
    for value, spec in zip(values, specs, strict=True):
        sizes = graph_inputs.axes_of(value) or ()
        axes = {}
        for axis, size in enumerate(sizes):
            if not isinstance(size, int):
                axes[axis] = BATCH if axis == spec.batch_axis else size or f"{value.name}:{axis}"
        found.append(axes if len(sizes) == len(spec.open_shape) else {})
    return tuple(found)


def base_sizes(specs: Sequence[InputSpec], axes: Axes) -> dict[str, int]:
    """The size of each open axis, by name, in the inputs that the network is known by."""
    found: dict[str, int] = {}
    for spec, each in zip(specs, axes, strict=True):
        shape = spec.full_shape(ROWS)
        for axis, name in each.items():
            found.setdefault(name, shape[axis])
    return found


def at(specs: Sequence[InputSpec], axes: Axes, sizes: Sizes, generator: torch.Generator) -> tuple[Tensor, ...]:
    """One tensor per input with the open axes at `sizes`: the example cut or continued, else made-up values."""
    rows = sizes.get(BATCH, max((spec.example_batch for spec in specs), default=1))
    found = []
    for spec, each in zip(specs, axes, strict=True):
        whole = [sizes.get(each[axis], size) if axis in each else size for axis, size in enumerate(spec.full_shape(rows))]
        shape = tuple(size for axis, size in enumerate(whole) if axis != spec.batch_axis)
        resized = replace(spec, shape=shape)
        given = resized.given(rows) if spec.telling else None
        found.append(resized.random(rows, generator) if given is None else given)
    return tuple(found)


def try_sizes(
    specs: Sequence[InputSpec],
    axes: Axes,
    guards: Sequence[Guard],
    compared: Compared,
    guards_at: GuardsAt,
    rows: Collection[int] = (),
    asked: Sequence[Trial] = (),
) -> Tried:
    """Try the file at sizes beside its example's.

    1. The trials: a size on the other side of every guard, of several at once, then `asked`, then sizes that differ in kind,
       cheapest first, within `MOST_WORK`.
    2. Each is asked of the network; where it refuses, the size is no evidence.
    3. `compared` tells how the file differs, if it does: the search ends there.
    4. Behind a guard the network may branch again: it is traced there, and new guards give new trials.
    5. Last the corners of what was seen: every axis at its smallest, and at its largest. `rows`: batch sizes seen already.

    `guards_at(sizes)`: the guards of the network traced at other sizes; it may raise, which is no evidence either.
    """
    base = base_sizes(specs, axes)
    found = Tried()
    if not base:
        return found
    known = {guard.text for guard in guards}
    planned, found.undecided = _planned(base, guards)
    ordered = [*(t for t in planned if t.guards), *asked, *(t for t in planned if not t.guards)]
    waiting = list({t.key: t for t in reversed(ordered)}.values())[::-1]
    work = MOST_WORK * _elements(base)
    explored = 0
    ask = partial(_ask, found, specs, axes, compared, torch.Generator().manual_seed(1))
    while waiting:
        trial = waiting.pop(0)
        if not trial.guards and not trial.reason and (work := work - _elements(trial.sizes)) < 0:
            found.untried += 1
            continue
        if not ask(trial):
            if found.differs:
                return found
            continue
        if trial.guards and not _is_one(trial) and explored < MOST_EXPLORED:
            explored += 1
            fresh = [guard for guard in _quietly(guards_at, trial.sizes) if guard.text not in known]
            known |= {guard.text for guard in fresh}
            more, remarks = _planned(trial.sizes, fresh)
            found.undecided += remarks
            tried = {t.key for t in (*found.agreed, *found.refused, *waiting)}
            waiting = [t for t in more if t.guards and t.key not in tried] + waiting
    for end, word in ((min, "smallest"), (max, "largest")):
        corner = Trial({name: end(ends) for name, ends in found.ranges(base, rows).items()})
        seen = [tuple(base.values()), *(t.key for t in (*found.agreed, *found.refused))]
        if corner.key in seen or _is_batch(corner.sizes, base, rows):
            continue
        if not bearable(corner.sizes, base) or _elements(corner.sizes) > max(work, MOST_CORNER * max(_elements(base), SMALL)):
            found.undecided.append(f"all at their {word} at once ({corner}) was not tried: it takes too long")
        elif not ask(corner) and found.differs:
            break
    return found


def _ask(
    found: Tried, specs: Sequence[InputSpec], axes: Axes, compared: Compared, generator: torch.Generator, trial: Trial
) -> bool:
    """Whether the file agrees at a trial; noted in `found`, also where it differs or the network refuses."""
    batch = Batch(f"noise at {trial}", at(specs, axes, trial.sizes, generator))
    try:
        answer = compared(batch)
    except (DeploykitError, MemoryError):
        found.refused.append(trial)
        return False
    if answer:
        found.differs = (trial, answer, batch)
        return False
    found.agreed.append(trial)
    return True


def _is_batch(sizes: Sizes, base: Sizes, rows: Collection[int]) -> bool:
    """Whether only the batch is another than the example's, and one of those that were seen already."""
    return sizes.get(BATCH) in rows and all(size == base[name] for name, size in sizes.items() if name != BATCH)


def _planned(base: Sizes, guards: Sequence[Guard]) -> tuple[list[Trial], list[str]]:
    planned, untried = trials(base, guards)
    return planned, [f"the other side of {each.guard.text} was not tried: {each.why}" for each in untried]


def _is_one(trial: Trial) -> bool:
    """Whether a guard is broken by a size of one: torch's own note that a size of one would be broadcast."""
    return any(trial.sizes[name] == 1 for guard in trial.guards for name in guard.axes if name in trial.sizes)


def _quietly(guards_at: GuardsAt, sizes: Sizes) -> Sequence[Guard]:
    try:
        return guards_at(sizes)
    except Exception:  # whatever torch.export or the network's code raises of these sizes
        return ()


def _elements(sizes: Sizes) -> int:
    return math.prod(sizes.values())
