"""Requests of the protocol, written by hand: what a client sends, and what its answer says."""

from __future__ import annotations

import json
import struct

import numpy as np


def binary(inputs, outputs=None, **document):
    """(body, headers) with every input as raw bytes; `inputs`: name -> (datatype, shape, bytes)."""
    entries = [
        {"name": name, "datatype": datatype, "shape": list(shape), "parameters": {"binary_data_size": len(data)}}
        for name, (datatype, shape, data) in inputs.items()
    ]
    head = json.dumps({"inputs": entries, **({} if outputs is None else {"outputs": outputs}), **document}).encode()
    return head + b"".join(data for _, _, data in inputs.values()), {"Inference-Header-Content-Length": str(len(head))}


def answered(response):
    """name -> array of a response that has raw tensors, or JSON."""
    length = response.headers.get("Inference-Header-Content-Length")
    body = response.content
    document = json.loads(body if length is None else body[: int(length)])
    at = 0 if length is None else int(length)
    found = {}
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[output["name"]] = np.array(output["data"]).reshape(output["shape"])
        else:
            found[output["name"]] = parsed(body[at : at + size], output["datatype"]).reshape(output["shape"])
            at += size
    assert at == (0 if length is None else len(body))
    return found, document


NUMPY = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2", "INT32": "<i4",
    "INT64": "<i8", "FP16": "<f2", "BF16": "<u2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


def parsed(data, datatype):
    if datatype != "BYTES":
        return np.frombuffer(data, NUMPY[datatype])
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return np.array(found, object)


def packed(texts):
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def infer(client, model, body, headers=None, **extra):
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    return client.post(f"/v2/models/{model}/infer", content=body, headers=headers or {}, **extra)
