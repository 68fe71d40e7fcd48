"""What could be faster: one kind of candidates per file; the name of the file is the name of the kind.

A new kind is one new file here with two names: ``PRECISION``, under which `tune --precisions` chooses it, and ``propose(task)``, a
generator that gives lists of `Proposal` and is sent what was measured of each list. So a kind can look at what its first candidates
were worth before it proposes, or makes, the next: what cannot win is not built.
"""

from __future__ import annotations

from deploykit import plugins
from deploykit.tuner.candidates._types import Kind, Proposal, Steps, Task

__all__ = ["Kind", "Proposal", "Steps", "Task", "load", "names", "precisions"]


def names() -> tuple[str, ...]:
    """Every kind, those of float32 first; imports none of them."""
    return tuple(sorted(plugins.names(__name__), key=lambda name: (name != "fp32", name)))


def load(name: str) -> Kind:
    """One kind. Raises `UnknownName`."""
    found: Kind = plugins.load(__name__, name, "kind of candidate")
    return found


def precisions() -> tuple[str, ...]:
    """What `--precisions` can choose from."""
    return tuple(dict.fromkeys(load(name).PRECISION for name in names()))
