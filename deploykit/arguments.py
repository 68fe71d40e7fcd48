"""Arguments of the public functions, as people give them: `read` where they are unambiguous, `InputError` with what to give else.

Each function takes what was given and the name of the argument, and gives one plain type. Numpy's numbers are numbers; `True` is
no number, and 1 is no truth value. What the command line writes as a text ("3x224x224", "batch,height") is understood here too.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast, overload

from deploykit.errors import InputError, kind_of
from deploykit.progress import SILENT, Progress

if TYPE_CHECKING:
    from typing import TypeAlias

# One or several, as people write them; `Shapes` and `Texts` are what public signatures say.
StrPath: TypeAlias = "str | os.PathLike[str]"
Shape: TypeAlias = "str | Sequence[int]"
Shapes: TypeAlias = "str | Sequence[int] | Sequence[Shape]"
Texts: TypeAlias = "str | Iterable[str]"

SEEDS = 2**32 - 1  # the largest seed
MOST = 1 << 31  # of a size, a batch, a number of steps

Choice = TypeVar("Choice", bound=str)


def path(value: StrPath, name: str) -> Path:
    """A file or folder. Raises `InputError` for anything but a text or a path, and for an empty text."""
    if not isinstance(value, (str, os.PathLike)):
        _refuse(name, value, 'give a path, such as "folder/file" or pathlib.Path("folder/file")')
    text = os.fspath(value)
    if not isinstance(text, str):
        _refuse(name, value, "give a path of text, not of bytes")
    if not text or "\0" in text:
        _refuse(name, value, "give the name of a file or folder")
    return Path(text)


def path_or_none(value: StrPath | None, name: str) -> Path | None:
    """The same, or `None` where nothing was given."""
    return None if value is None else path(value, name)


def text(value: str, name: str, example: str) -> str:
    """A text; `example` is one that can be given."""
    if not isinstance(value, str):
        _refuse(name, value, f"give a text, such as {example!r}")
    return value


def choice(value: Choice, name: str, known: Iterable[str]) -> Choice:
    """One of the texts in `known`."""
    known = tuple(known)
    hint = f"choose one of {', '.join(known)}"
    if not isinstance(value, str):
        _refuse(name, value, hint)
    if value not in known:
        raise InputError(f"unknown {name} {value[:80]!r}", hint)
    return value


def texts(value: Texts, name: str, example: str) -> tuple[str, ...]:
    """Several texts: a list of them, or one text with commas in between. An empty text is none."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",")) if value.strip() else ()
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        _refuse(name, value, f"give a list of texts, such as {example}")
    found = tuple(value)
    if not all(isinstance(each, str) for each in found):
        _refuse(name, value, f"give a list of texts, such as {example}")
    return found


def texts_or_none(value: Texts | None, name: str, example: str) -> tuple[str, ...] | None:
    """The same, or `None` where nothing was given."""
    return None if value is None else texts(value, name, example)


@overload
def whole(value: int, name: str, least: int = ..., most: int = ...) -> int: ...
@overload
def whole(value: int | None, name: str, least: int = ..., most: int = ...) -> int | None: ...
def whole(value: int | None, name: str, least: int = 0, most: int = MOST) -> int | None:
    """A whole number from `least` to `most`, or `None` where nothing was given."""
    if value is None:
        return None
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        _refuse(name, value, "give a whole number" + (f" from {least} to {most}" if most < MOST else f", {least} or more"))
    return number


@overload
def real(value: float, name: str, least: float = ..., above: bool = ...) -> float: ...
@overload
def real(value: float | None, name: str, least: float = ..., above: bool = ...) -> float | None: ...
def real(value: float | None, name: str, least: float = 0.0, above: bool = False) -> float | None:
    """A finite number, `least` or more (`above`: more), or `None` where nothing was given."""
    if value is None:
        return None
    try:
        number = math.nan if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number < least or (above and number == least):
        _refuse(name, value, f"give a number {'above' if above else 'from'} {least:g}")
    return number


def flag(value: bool, name: str) -> bool:
    """True or false; numpy's own truth values too."""
    if type(value).__name__ not in ("bool", "bool_"):
        _refuse(name, value, "give True or False")
    return bool(value)


def keywords(value: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """Values by name, or `None` where nothing was given."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        _refuse(name, value, f'give a dict by name, such as {name}={{"width": 64}}')
    return dict(value)


def shapes(value: Shapes | None, name: str = "input_shapes") -> tuple[tuple[int, ...], ...] | None:
    """Shapes without the batch, one per input; `None` where nothing was given.

    A list of shapes, each `(3, 224, 224)` or "3x224x224"; or one such shape, for a network of one input.
    """
    if value is None:
        return None
    several = [value] if isinstance(value, str) or _is_shape(value) else value
    if isinstance(several, (bytes, Mapping)) or not isinstance(several, Iterable):
        _refuse(name, value, _SHAPES)
    found = tuple(_shape(each) for each in several)
    if not all(shape is not None for shape in found):
        _refuse(name, value, _SHAPES)
    return tuple(shape for shape in found if shape is not None)


def wholes(value: int | Iterable[int], name: str, least: int, most: int, example: str) -> tuple[int, ...]:
    """Several whole numbers: a list of them, or one."""
    several = value if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) else [value]
    found = tuple(whole(each, name, least, most) for each in several)  # type: ignore[arg-type]  # that is what it finds out
    if not found or None in found:
        _refuse(name, value, f"give a list of whole numbers, such as {example}")
    return found


def progress(value: Progress | bool | None, name: str = "progress") -> Progress:
    """What is told how far the work is: an object with `start`, `advance` and `say`. `None` and `False`: nobody."""
    if value is None or value is False:
        return SILENT
    if isinstance(value, type) or not all(callable(getattr(value, verb, None)) for verb in ("start", "advance", "say")):
        _refuse(name, value, "give an object with the methods start, advance and say, as deploykit.progress.Progress describes it")
    return cast(Progress, value)


_SHAPES = 'give one shape per input without the batch, such as [(3, 224, 224)] or "3x224x224"'


def _is_shape(value: object) -> bool:
    """Whether it is a sequence of numbers, not of shapes."""
    if isinstance(value, Mapping) or not isinstance(value, Iterable) or not isinstance(value, Sized):
        return False
    return len(value) > 0 and not any(isinstance(each, (str, Sized)) for each in value)


def _shape(value: object) -> tuple[int, ...] | None:
    """One shape, `None` where it is none; an empty one is a number per sample."""
    if isinstance(value, str):
        parts = value.lower().split("x") if value else []
        numbers = [int(part) if part.isdecimal() and len(part) < 12 else 0 for part in parts]
    elif isinstance(value, Iterable) and not isinstance(value, (bytes, Mapping)):
        try:
            numbers = [0 if isinstance(each, bool) else operator.index(each) for each in value]
        except TypeError:
            return None
    else:
        return None
    return tuple(numbers) if all(1 <= number <= MOST for number in numbers) else None


def _refuse(name: str, value: object, hint: str) -> NoReturn:
    """`name` cannot be this value."""
    try:
        shown = repr(value)
    except Exception:  # somebody else's object
        shown = ""
    shown = shown if 0 < len(shown) <= 80 else kind_of(value)
    raise InputError(f"{name} cannot be {shown}", hint)
