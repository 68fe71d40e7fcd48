"""`put_in`: a model whose local functions stand in place of their calls, as far as they can."""

from __future__ import annotations

import onnx
from onnx import inliner

from deploykit.onnx_file import walk
from deploykit.onnx_file.walk import STANDARD
from deploykit.profiler.onnx import stored


def put_in(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the functions whose operators mean the same in the model's opset; the model itself where it has none.

    What a function stores is marked, see `stored.mark`. The default of an attribute goes to each call that does not give it.
    """
    if not model.functions:
        return model
    found = onnx.ModelProto()
    found.CopyFrom(model)
    stored.mark(found)
    _give_defaults(found)
    versions = {_domain(entry.domain): entry.version for entry in found.opset_import}
    for function in found.functions:
        _raise_opset(function, versions)
    return inliner.inline_local_functions(found)


def _give_defaults(model: onnx.ModelProto) -> None:
    defaults = {(f.domain, f.name, f.overload): f.attribute_proto for f in model.functions if f.attribute_proto}
    for node in walk.nodes(model) if defaults else ():
        given = {attribute.name for attribute in node.attribute}
        wanted = defaults.get((node.domain, node.op_type, node.overload), ())
        node.attribute.extend(attribute for attribute in wanted if attribute.name not in given)


def _raise_opset(function: onnx.FunctionProto, versions: dict[str, int]) -> None:
    """Let a function have the opset of the model, if that leaves every operator in it as it is."""
    used = {node.op_type for node in walk.nodes(function) if node.domain in STANDARD}
    for entry in function.opset_import:
        version = versions.get("", entry.version)
        if entry.domain in STANDARD and all(_is_same(_schema(name, entry.version), _schema(name, version)) for name in used):
            entry.version = version


def _schema(operator: str, version: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(operator, version, "")
    except onnx.defs.SchemaError:
        return None


def _is_same(one: onnx.defs.OpSchema | None, other: onnx.defs.OpSchema | None) -> bool:
    """Whether what is written for one version of an operator means the same in another: only types and options were added."""
    if one is None or other is None:
        return False
    defaults = [{name: each.default_value.SerializeToString() for name, each in s.attributes.items()} for s in (one, other)]
    inputs = [[each.name for each in s.inputs] for s in (one, other)]
    outputs = [[each.name for each in s.outputs] for s in (one, other)]
    return (
        defaults[0].items() <= defaults[1].items()
        and inputs[0] == inputs[1][: len(inputs[0])]
        and outputs[0] == outputs[1][: len(outputs[0])]
    )


def _domain(domain: str) -> str:
    return "" if domain in STANDARD else domain
