"""Names that two files give to different values: a tool that folds a BatchNorm into a convolution may keep the convolution's name.

A name is suspect where the value goes on to other nodes in one file than in the other. A difference of a suspect value is none of
the network if every compared value that is next on the way to the outputs agrees again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import onnx

from deploykit.onnx_file import walk
from deploykit.verdict.layers import LayerDifference

OUTPUT = ("", ())  # stands for the end of the graph among the users of a value

User = tuple[str, tuple[str, ...]]


def suspects(left: onnx.GraphProto, right: onnx.GraphProto) -> frozenset[str]:
    """The values of both graphs that are not used by the same nodes: those of one operator with outputs of one name."""
    ours, theirs = _users(left), _users(right)
    return frozenset(name for name in ours.keys() & theirs.keys() if ours[name] != theirs[name])


def marked(
    layers: Sequence[LayerDifference], graph: onnx.GraphProto, suspect: Collection[str], outputs_agree: bool
) -> list[LayerDifference]:
    """The same differences, in which those of names that mean another value are marked as `moved`.

    `graph`: the one whose values were compared, `suspect` those that may have moved. Where nothing compared follows a value, the
    outputs must agree.
    """
    if not suspect or all(layer.difference.within for layer in layers):
        return list(layers)
    users = _users(graph)
    within: dict[str, dict[str, bool]] = defaultdict(dict)
    for layer in layers:
        within[layer.batch][layer.path] = layer.difference.within
    differing = [layer for layer in layers if not layer.difference.within]
    moved = {layer.path for layer in differing} & set(suspect)
    for layer in differing:  # a name that means another value does so on every batch
        if layer.path in moved and not _agrees_again(layer.path, users, within[layer.batch], suspect, outputs_agree):
            moved.discard(layer.path)
    return [replace(layer, moved=layer.path in moved) for layer in layers]


def _agrees_again(
    value: str, users: Mapping[str, set[User]], within: Mapping[str, bool], suspect: Collection[str], outputs_agree: bool
) -> bool:
    """Whether on every way from a value to the outputs the first value agrees that was compared and has not moved itself."""
    waiting, seen = [value], {value}
    while waiting:
        for user in users.get(waiting.pop(), ()):
            if user == OUTPUT and not outputs_agree:
                return False
            for name in user[1]:
                if name in seen or within.get(name):
                    continue
                if name in within and name not in suspect:
                    return False
                seen.add(name)
                waiting.append(name)
    return True


def _users(graph: onnx.GraphProto) -> dict[str, set[User]]:
    """Each value of a graph -> the operators that take it, with their outputs; bodies of loops and branches count as their node."""
    found: dict[str, set[User]] = {name: set() for node in graph.node for name in node.output if name}
    for node in graph.node:
        user = (node.op_type, tuple(node.output))
        inner = (name for body in walk.bodies(node) for each in walk.nodes(body) for name in each.input)
        for name in (*node.input, *inner):
            if name in found:
                found[name].add(user)
    for output in graph.output:
        if output.name in found:
            found[output.name].add(OUTPUT)
    return found
