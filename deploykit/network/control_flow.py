"""Branches and loops that a network asks torch for (torch.cond, torch.while_loop), run where a mode at the dispatcher sees them.

By themselves they run their parts unwatched, or refuse to run under a mode that does not say that it knows them.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def follow(mode: TorchDispatchMode, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the higher-order operator `func` gives, called under `mode`; the parts of other ones than `FOLLOWED` run without it."""
    known = FOLLOWED.get(func.name())
    if known is None:
        return func(*args, **kwargs)
    with mode:
        return known(*args, **kwargs)


def branch(func: Any, args: Sequence[Any]) -> tuple[str, bool] | None:
    """Where in the code a branch of torch.cond lies, such as ``net.py:25``, and which side is taken; `None` for anything else."""
    if func.name() != "cond":
        return None
    code = getattr(args[1], "__code__", None)
    place = f"{Path(code.co_filename).name}:{code.co_firstlineno}" if code else type(args[1]).__name__
    return place, bool(args[0])


def one_sided(taken: Mapping[str, AbstractSet[bool]]) -> str:
    """A remark that names the branches, by their places in the code, of which one side was never taken; empty for none."""
    places = [f"{place} ({'true' if True in sides else 'false'})" for place, sides in taken.items() if len(sides) == 1]
    shown = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
    return f"torch.cond took one side alone at {shown}: the other is not proven, give examples that take it" if places else ""


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """What asks for torch's compiler (torch.cond, flex_attention, a compiled layer) runs as written, where it can be seen.

    Only where somebody has loaded the compiler already, which takes over a second: a network that needs it loads it.
    """
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _cond(predicate: Any, if_true: Any, if_false: Any, operands: Any = ()) -> Any:
    return (if_true if bool(predicate) else if_false)(*operands)


def _while_loop(condition: Any, body: Any, carried: Any, others: Any = ()) -> Any:
    while bool(condition(*carried, *others)):
        carried = tuple(body(*carried, *others))
    return carried


# What the operators of torch.cond and torch.while_loop do.
FOLLOWED: Mapping[str, Callable[..., Any]] = {"cond": _cond, "while_loop": _while_loop}
