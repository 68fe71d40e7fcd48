"""Where in a checkpoint the weights of a network lie, and what is left over.

Dicts within dicts become one dict with dotted names; so a key around the weights ("state_dict", "net") and a prefix before their
names ("module.", "model.", "backbone.") are one thing: the *place* of the weights. It is the one under which most of the network's
tensors lie, in the right shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from deploykit.errors import CheckpointError
from deploykit.network import checkpoint_guard
from deploykit.network.checkpoint_pickle import KEYS

MAX_DEPTH = 16  # dicts within each other
MAX_ENTRIES = 1_000_000  # looked at
MAX_NAME = 1000  # characters of one key; what lies under a longer one is nobody's weights
MAX_NAMES = 64 << 20  # characters of all names
MAX_DOTS = 64  # after which a name of the network may begin
NAMED = 5  # groups of tensors that a note names

# Parts that torch.compile, FSDP, activation checkpointing and DataParallel put into names, wherever they were used.
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_GRADIENTS = ("optim", "exp_avg", "momentum", "grad")  # what an optimizer keeps under the names of the weights
_COUNTED = ("total_ops", "total_params")  # left in every module by a counter of operations


@dataclass(frozen=True)
class Fit:
    """`tensors`: what lies at `place`, by the network's names. `beside`: what lies elsewhere, by its own.

    `rivals`: other places where as much fits.
    """

    tensors: dict[str, Tensor]
    place: str
    beside: dict[str, Tensor]
    rivals: tuple[str, ...] = ()


def flattened(content: object, source: str) -> dict[str, Tensor]:
    """Every tensor in dicts within dicts, by its dotted name. Raises `CheckpointError` for what holds none, or too much."""
    if isinstance(content, (list, tuple)):
        content = {str(index): part for index, part in enumerate(content[:100]) if isinstance(part, Mapping)}
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{source} holds no state dict", "save model.state_dict() with torch.save")
    found: dict[str, Tensor] = {}
    left = MAX_NAMES
    for name, tensor in _walk(content, source):
        left -= len(name)
        if left < 0:
            raise CheckpointError(f"{source} was refused: its names are too long", "save model.state_dict() alone")
        if name in found:
            raise CheckpointError(f"{source} holds {name[:80]!r} twice", "save model.state_dict() alone")
        found[name] = tensor
    if not found:
        keys = ", ".join(repr(str(key)[:40]) for key in list(content)[:NAMED])
        raise CheckpointError(f"{source} holds no tensor, only {keys}", "save model.state_dict() with torch.save")
    return found


def _walk(content: Mapping[Any, Any], source: str) -> Iterator[tuple[str, Tensor]]:
    """Depth first, in the file's order; a dict within itself is not entered again."""
    entries = 0
    above: list[tuple[str, int, Iterator[tuple[Any, Any]]]] = [("", id(content), iter(content.items()))]
    while above:
        prefix, _, items = above[-1]
        for key, value in items:
            entries += 1
            if entries > MAX_ENTRIES:
                raise CheckpointError(f"{source} was refused: it holds too many entries", "save model.state_dict() alone")
            name = str(key) if isinstance(key, (str, int)) else ""
            if not isinstance(value, (Tensor, Mapping)) or not 0 < len(name) <= MAX_NAME:
                continue
            if isinstance(value, Tensor):
                yield prefix + name, value
            elif len(above) < MAX_DEPTH and all(id(value) != seen for _, seen, _ in above):
                above.append((f"{prefix}{name}.", id(value), iter(value.items())))
                break
        else:
            above.pop()


def fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor | None]) -> Fit:
    """Where the `wanted` tensors lie among `tensors` (those without a tensor are looked for by name alone).

    Of several places where as much fits: the earlier in `KEYS`, what is not averaged first, then the first in the file.
    """
    found = [_placed(spelling, wanted) for spelling in _spellings(tensors)]
    return max(found, key=lambda pair: pair[0])[1]


def unwrapped(content: object) -> object:
    """The dict with the weights where no network is known: under the first of `KEYS` that holds a dict, and again in there."""
    for _ in range(MAX_DEPTH):
        inner = (
            next((content[key] for key in KEYS if isinstance(content.get(key), Mapping)), None)
            if isinstance(content, Mapping)
            else None
        )
        if not inner:
            break
        content = inner
    return content


def settled(found: Fit, tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """`tensors`, those at the place found, without what the network may do without; and the notes that name it.

    Left over is what lies elsewhere in the file, heads that the network does not have, counters, and tables of whole numbers.
    A tensor inside a module that the network has, or one more layer of a sequence, stays, to be refused by name: it was trained
    in another network.
    """
    depth = _shared_depth(wanted)
    known = {tuple(name.split(".")[: depth + 1]) for name in wanted}

    def idle(name: str, tensor: Tensor) -> bool:
        parts = name.split(".")
        if parts[-1] in _COUNTED or (checkpoint_guard.is_dense(tensor) and not tensor.is_floating_point()):
            return True
        return tuple(parts[: depth + 1]) not in known and not parts[: depth + 1][-1].isdecimal()

    over = {name for name, tensor in tensors.items() if name not in wanted and idle(name, tensor)}
    notes = []
    names = [*(found.place + name for name in tensors if name in over), *found.beside]
    left = _grouped((name for name in names if not name.startswith(found.rivals)), found.place)
    if left:
        notes.append(f"weights: the checkpoint also holds {left}: left over, as the network does not take them")
    if found.rivals:
        rivals = ", ".join(repr(place.rstrip(".")[:80]) for place in found.rivals[:NAMED])
        notes.append(f"weights: those under {found.place.rstrip('.')[:80]!r} were taken; those under {rivals} would fit, too")
    return {name: tensor for name, tensor in tensors.items() if name not in over}, tuple(notes)


def _shared_depth(names: Iterable[str]) -> int:
    """How many modules lie around all of the network's tensors."""
    modules = [name.split(".")[:-1] for name in names]
    shared = 0
    for parts in zip(*modules, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return shared


def _spellings(tensors: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """The names as they are, without the parts that wrappers put into them, and without ``module`` anywhere."""
    yield tensors
    for parts in (_WRAPPERS, (*_WRAPPERS, "module")):
        if any(part in name for name in tensors for part in parts):
            spelled = {_without(name, parts): tensor for name, tensor in tensors.items()}
            if len(spelled) == len(tensors):
                yield spelled


def _without(name: str, parts: Sequence[str]) -> str:
    return ".".join(part for part in name.split(".") if part not in parts)


def _placed(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor | None]) -> tuple[tuple[int, int], Fit]:
    """The best place under one spelling, and how much fits there: in name and shape, and in name."""
    places: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        for start in _starts(name):
            suffix = name[start:]
            if suffix in wanted:
                counts = places.setdefault(name[:start], [0, 0])
                counts[0] += _same_shape(tensor, wanted[suffix])
                counts[1] += 1
    if not places:
        return (0, 0), Fit(dict(tensors), "", {})
    place = max(places, key=lambda place: (*places[place], *_preference(place)))
    below = _below(tensors, place)
    beside = {name: tensor for name, tensor in tensors.items() if not name.startswith(place)}
    rivals = tuple(other for other, counts in places.items() if other != place and counts == places[place])
    return (places[place][0], places[place][1]), Fit(below, place, beside, rivals)


def _starts(name: str) -> Iterator[int]:
    """Where a name of the network may begin in a name of the file."""
    start = 0
    for _ in range(MAX_DOTS):
        yield start
        start = name.find(".", start) + 1
        if not start:
            return


def _same_shape(tensor: Tensor, wanted: Tensor | None) -> bool:
    return wanted is None or (checkpoint_guard.is_dense(tensor) and tensor.shape == wanted.shape)


def _preference(place: str) -> tuple[int, int]:
    """Higher is better."""
    parts = place.split(".")
    rank = KEYS.index(parts[0]) if parts[0] in KEYS else len(KEYS)
    averaged = any("ema" in part.lower().split("_") for part in parts)
    gradients = any(word in place.lower() for word in _GRADIENTS)
    return -averaged - 2 * gradients, -rank if place else 1


def _below(tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    return {name[len(place) :]: tensor for name, tensor in tensors.items() if name.startswith(place)}


def _grouped(names: Iterable[str], place: str) -> str:
    """A few tensors by their names, many by the part of the file that they lie in: beside `place`, or below a key around both."""
    groups: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        groups.setdefault(".".join(parts[: 2 if place.startswith(f"{parts[0]}.") else 1]), []).append(name)
    shown = [
        ", ".join(repr(name[:80]) for name in members) if len(members) < 3 else f"{len(members)} tensors under {head[:80]!r}"
        for head, members in list(groups.items())[:NAMED]
    ]
    return ", ".join(shown) + (f" and {len(groups) - NAMED} more parts" if len(groups) > NAMED else "")
