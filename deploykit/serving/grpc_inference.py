"""The messages of one inference over gRPC <-> plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deploykit.errors import InputError
from deploykit.serving import inference
from deploykit.serving.grpc_messages import message
from deploykit.serving.models import Served
from deploykit.serving.tensors import TYPES, checked_shape, from_bytes, from_values, to_bytes


def read_request(request: Any, served: Served) -> inference.Inference:
    """A message `ModelInferRequest` as plain data. Raises `InputError`."""
    network = served.signature
    parameters = inference.check_parameters(_parameters(request.parameters), "the request")
    inference.check_sequence(parameters)
    raw = list(request.raw_input_contents)
    typed = [entry for entry in request.inputs if entry.HasField("contents")]
    if raw and (typed or len(raw) != len(request.inputs)):
        raise InputError(f"{len(request.inputs)} inputs come with {len(raw)} raw contents and {len(typed)} typed ones")
    arrays: dict[str, Any] = {}
    for place, entry in enumerate(request.inputs):
        tensor = inference.input_named(entry.name, entry.datatype, network)
        if tensor.name in arrays:
            raise InputError(f"the input {tensor.name!r:.80} is given twice")
        inference.check_parameters(_parameters(entry.parameters), f"the input {tensor.name!r:.80}")
        shape = checked_shape(list(entry.shape), tensor.name)
        if raw:
            arrays[tensor.name] = from_bytes(memoryview(raw[place]), tensor.datatype, shape, tensor.name)
        else:
            arrays[tensor.name] = _typed(entry, tensor, shape)
    inference.check_inputs(arrays, network)
    asked = []
    for entry in request.outputs:
        own = inference.check_parameters(_parameters(entry.parameters), f"the output {entry.name!r:.80}")
        classes = own.get("classification", 0)
        if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= 100_000:
            raise InputError(f"classification must be a whole number, not {classes!r:.40}")
        asked.append((entry.name, True, classes))
    wanted = inference.outputs_named(asked or [(tensor.name, True, 0) for tensor in network.outputs], network)
    if len(request.id) > inference.MAX_ID:
        raise InputError(f"id must be a text of at most {inference.MAX_ID} characters")
    return inference.Inference(arrays, wanted, request.id, inference.timeout_of(parameters.get("timeout")))


def write_response(asked: inference.Inference, outputs: Mapping[str, Any], served: Served) -> Any:
    """The message `ModelInferResponse`; outputs are raw, as every client reads them."""
    response = message("ModelInferResponse")(model_name=served.name, model_version=served.version, id=asked.id)
    tensors = {tensor.name: tensor for tensor in served.signature.outputs}
    for wanted in asked.outputs:
        array, datatype = outputs[wanted.name], tensors[wanted.name].datatype
        if wanted.classes:
            array, datatype = inference.best(array, wanted, served.signature.labels), TYPES["BYTES"]
        response.outputs.add(name=wanted.name, datatype=datatype.name, shape=list(array.shape))
        response.raw_output_contents.append(to_bytes(array, datatype))
    return response


def _typed(entry: Any, tensor: Any, shape: tuple[int, ...]) -> Any:
    field = tensor.datatype.field
    if field is None:
        raise InputError(
            f"there are no typed contents of {tensor.datatype.name}", f"send {tensor.name!r:.80} as raw_input_contents"
        )
    for other, values in entry.contents.ListFields():
        if other.name != field and len(values):
            raise InputError(f"the input {tensor.name!r:.80} of {tensor.datatype.name} has {other.name}, not {field}")
    return from_values(list(getattr(entry.contents, field)), tensor.datatype, shape, tensor.name)


def _parameters(given: Any) -> dict[str, Any]:
    """A map of `InferParameter` as texts, numbers and booleans."""
    found = {}
    for name, value in given.items():
        chosen = value.WhichOneof("choice")
        if chosen is not None:
            found[name] = getattr(value, chosen)
    return found
