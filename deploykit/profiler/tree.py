"""`tree_of`: the modules of a network with the sums of all that they hold and run, outermost first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from deploykit.profiler.layer_table import Branch, Layer


def tree_of(rows: Iterable[Layer], types: Mapping[str, str]) -> tuple[Branch, ...]:
    """Every module that a row belongs to, each before those inside it, in the order of execution.

    `types`: the type of every module by its path; what has none, such as a row of the runtime's own, keeps that of its row.
    """
    found: dict[str, Branch] = {"": Branch("", types.get("", "network"), 0)}
    below: dict[str, list[str]] = {"": []}
    for row in rows:
        for path in _around(row.path):
            if path not in found:
                parent = path.rpartition(".")[0]
                kind = types.get(path.partition("@")[0], row.type)
                found[path] = Branch(path, kind, found[parent].depth + 1)
                below[path] = []
                below[parent].append(path)
            found[path] = _with(found[path], row)
        found[row.path] = replace(found[row.path], output_shape=row.output_shape)
    return tuple(_in_order("", found, below))


def _around(path: str) -> Iterator[str]:
    """The network, the modules around that of the path, and it itself."""
    yield ""
    parts = path.split(".") if path else []
    yield from (".".join(parts[: length + 1]) for length in range(len(parts)))


def _with(branch: Branch, row: Layer) -> Branch:
    times = (_sum(branch.torch_ms, row.torch_ms), _sum(branch.onnxruntime_ms, row.onnxruntime_ms))
    ops, params = branch.ops + row.ops, branch.params + row.params
    return replace(branch, params=params, ops=ops, torch_ms=times[0], onnxruntime_ms=times[1])


def _sum(first: float | None, second: float | None) -> float | None:
    return second if first is None else first if second is None else first + second


def _in_order(path: str, found: Mapping[str, Branch], below: Mapping[str, list[str]]) -> Iterator[Branch]:
    yield found[path]
    for child in below[path]:
        yield from _in_order(child, found, below)
