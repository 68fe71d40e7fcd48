"""`GET /openapi.json`: what the server takes and gives, as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from deploykit._version import __version__
from deploykit.serving.bodies import Limits
from deploykit.serving.documents import MAX_JSON, MAX_PARTS
from deploykit.serving.images import MAX_IMAGES
from deploykit.serving.tensors import TYPES

_TEXT = {"type": "string"}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "maxItems": 32}
_PARAMETERS = {"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}}
_SIZES = (
    f"At most {Limits.body >> 20} MiB, inflated too; a JSON document at most {MAX_JSON >> 20} MiB, "
    f"with at most {MAX_PARTS:,} lists, objects, texts and escapes."
)


def document() -> dict[str, Any]:
    """The whole document; it does not depend on the models."""
    paths: dict[str, Any] = {
        "/v2": {"get": _get("serverMetadata", "The server's name, version and extensions.", _ref("Server"))},
        "/v2/health/live": {"get": _get("serverLive", "Whether it lives.", {"type": "object"})},
        "/v2/health/ready": {"get": _get("serverReady", "Whether every model answers.", {"type": "object"}, 503)},
        "/v2/models/stats": {"get": _get("allStatistics", "What every model has done.", {"type": "object"})},
        "/v2/repository/index": {"post": _index()},
        "/metrics": {"get": _plain("metrics", "Counters and histograms for Prometheus.")},
    }
    for way in ("load", "unload"):
        about = f"{way} a model's files, where the server was started with --allow-reload."
        paths[f"/v2/repository/models/{{model}}/{way}"] = {
            "parameters": [_path("model")],
            "post": _change(f"model{way.title()}", about),
        }
    for prefix, names, suffix in (
        ("/v2/models/{model}", ["model"], ""),
        ("/v2/models/{model}/versions/{version}", ["model", "version"], "OfVersion"),
    ):
        parameters = [_path(name) for name in names]

        def add(path: str, verb: str, what: dict[str, Any], *, under: str = prefix, with_: list[Any] = parameters) -> None:
            paths[f"{under}{path}"] = {"parameters": with_, verb: what}

        add("", "get", _get(f"modelMetadata{suffix}", "What it takes and gives.", _ref("Model"), 404, 503))
        add("/ready", "get", _get(f"modelReady{suffix}", "Whether it answers.", {"type": "object"}, 404, 503))
        add("/config", "get", _get(f"modelConfig{suffix}", "Its configuration, as Triton has it.", {"type": "object"}, 404, 503))
        add("/stats", "get", _get(f"modelStatistics{suffix}", "What it has done.", {"type": "object"}, 404, 503))
        add("/infer", "post", _infer(suffix))
        add("/predict", "post", _predict(suffix))
    return {
        "openapi": "3.1.0",
        "info": {"title": "deploykit", "version": __version__, "description": "Open Inference Protocol v2, and images beside it."},
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }


def _schemas() -> dict[str, Any]:
    tensor = {"name": _TEXT, "datatype": {"enum": list(TYPES)}, "shape": {"type": "array", "items": {"type": "integer"}}}
    data = {"name": _TEXT, "datatype": {"enum": list(TYPES)}, "shape": _SHAPE, "data": {"type": "array"}, "parameters": _PARAMETERS}
    asked = {"name": _TEXT, "parameters": _PARAMETERS}
    several = {"type": "array", "minItems": 1, "maxItems": MAX_IMAGES}
    candidate = {"label": _TEXT, "score": {"type": "number"}}
    answer = {
        "label": {"type": ["string", "null"]},
        "score": {"type": ["number", "null"]},
        "top": {"type": "array", "items": _object(candidate)},
        "error": {"type": ["string", "null"]},
        "values": {},
    }
    return {
        "Error": _object({"error": _TEXT}),
        "Server": _object({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
        "Tensor": _object(tensor),
        "Model": _object(
            {
                "name": _TEXT,
                "versions": {"type": "array", "items": _TEXT},
                "platform": _TEXT,
                "inputs": {"type": "array", "items": _ref("Tensor")},
                "outputs": {"type": "array", "items": _ref("Tensor")},
            }
        ),
        "Request": {
            "type": "object",
            "properties": {
                "id": _TEXT,
                "parameters": _PARAMETERS,
                "inputs": {"type": "array", "minItems": 1, "items": _object(data, ["name", "datatype", "shape"])},
                "outputs": {"type": "array", "items": _object(asked, ["name"])},
            },
            "required": ["inputs"],
        },
        "Response": _object(
            {
                "model_name": _TEXT,
                "model_version": _TEXT,
                "id": _TEXT,
                "outputs": {"type": "array", "items": _object(data, ["name"])},
            },
            ["model_name", "outputs"],
        ),
        "Images": {
            "oneOf": [
                {"type": "object", "properties": {"images": {**several, "items": _TEXT}}, "required": ["images"]},
                {"type": "object", "properties": {"inputs": several}, "required": ["inputs"]},
            ]
        },
        "Answers": _object(
            {"model_name": _TEXT, "model_version": _TEXT, "predictions": {"type": "array", "items": _object(answer)}}
        ),
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _responses(content: dict[str, Any], statuses: tuple[int, ...]) -> dict[str, Any]:
    errors = {str(status): {"description": "why not", "content": _json(_ref("Error"))} for status in sorted({401, *statuses})}
    return {"200": {"description": "the answer", "content": content}, **errors}


def _get(name: str, about: str, schema: dict[str, Any], *statuses: int) -> dict[str, Any]:
    responses = _responses(_json(schema), statuses)
    if (name.endswith(("Live", "Ready")) and name.startswith("server")) or name.startswith("modelReady"):
        for status in set(responses) & {"503"}:
            responses[status] = {"description": "not now", "content": _json({"type": "object"})}
    return {"operationId": name, "summary": about, "responses": responses}


def _plain(name: str, about: str) -> dict[str, Any]:
    return {"operationId": name, "summary": about, "responses": _responses({"text/plain": {"schema": _TEXT}}, ())}


def _index() -> dict[str, Any]:
    body = {"required": False, "content": _json(_object({"ready": {"type": "boolean"}}, []))}
    schema = {"type": "array", "items": _object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT})}
    return {
        "operationId": "repositoryIndex",
        "summary": "Which models there are.",
        "requestBody": body,
        "responses": _responses(_json(schema), (400, 408, 413, 415, 503)),
    }


def _change(name: str, about: str) -> dict[str, Any]:
    responses = _responses({}, (400, 403, 404, 408, 413, 415, 503))
    responses["200"] = {"description": "done"}
    return {"operationId": name, "summary": about, "responses": responses}


def _infer(suffix: str) -> dict[str, Any]:
    header = "Inference-Header-Content-Length"
    length = {"name": header, "in": "header", "required": False, "schema": {"type": "string", "pattern": "^[0-9]{1,12}$"}}
    raw = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "operationId": f"infer{suffix}",
        "summary": "Tensors in, tensors out. Raw tensors follow the JSON, whose length the header says.",
        "parameters": [length],
        "requestBody": {"required": True, "description": _SIZES, "content": {**_json(_ref("Request")), **raw}},
        "responses": _responses({**_json(_ref("Response")), **raw}, (400, 404, 408, 413, 415, 500, 503)),
    }


def _predict(suffix: str) -> dict[str, Any]:
    image = {"schema": {"type": "string", "format": "binary"}}
    form = {"schema": {"type": "object", "additionalProperties": {"type": "string", "format": "binary"}}}
    content = {**_json(_ref("Images")), "multipart/form-data": form, "image/png": image, "image/jpeg": image}
    return {
        "operationId": f"predict{suffix}",
        "summary": "Images in, answers out: one file as the body, files of a form, base64 or numbers in JSON.",
        "parameters": [{"name": "top", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 999_999}}],
        "requestBody": {"required": True, "description": _SIZES, "content": content},
        "responses": _responses(_json(_ref("Answers")), (400, 404, 408, 413, 415, 500, 503)),
    }
