"""A manifest for KServe: an InferenceService that lets its Triton runtime serve a packaged repository."""

from __future__ import annotations

import json
import re
from typing import Any

from deploykit.errors import InputError
from deploykit.runtime.contract import Contract

_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def manifest(name: str, storage: str, contract: Contract | None, gpu: bool = False) -> str:
    """The YAML of one InferenceService. `storage`: where the repository will lie, such as s3://bucket/models.

    Raises `InputError` for an address of no known kind.
    """
    if not re.fullmatch(r"(s3|gs|pvc|hdfs|https?)://[^\s\"]+", storage):
        raise InputError(
            f"KServe cannot read models from {storage!r:.80}", "give --storage-uri such as s3://bucket/models or pvc://claim/models"
        )
    limits = {"cpu": "2", "memory": "4Gi", **({"nvidia.com/gpu": "1"} if gpu else {})}
    document: dict[str, Any] = {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service_name(name), "annotations": _annotations(name, contract)},
        "spec": {
            "predictor": {
                "minReplicas": 1,
                "model": {
                    "modelFormat": {"name": "onnx", "version": "1"},
                    "protocolVersion": "v2",
                    "runtime": "kserve-tritonserver",
                    "storageUri": storage,
                    "resources": {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": limits},
                },
            }
        },
    }
    return "\n".join(_yaml(document)) + "\n"


def service_name(name: str) -> str:
    """A name as Kubernetes takes it: small letters, digits and dashes, at most 63."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")[:63].rstrip("-")
    found = plain if _NAME.fullmatch(plain) else f"model-{plain}"[:63].rstrip("-")
    return found or "model"


def _annotations(name: str, contract: Contract | None) -> dict[str, str]:
    found = {"deploykit/model": name}
    if contract is not None:
        verdict = (contract.verdict or {}).get("verdict")
        said = {"verdict": verdict, "checkpoint-sha256": contract.provenance.get("checkpoint_sha256")}
        found |= {f"deploykit/{key}": value for key, value in said.items() if isinstance(value, str) and len(value) <= 100}
    return found


def _yaml(document: dict[str, Any], indent: str = "") -> list[str]:
    """Objects as YAML; every text in the quotes of JSON, which is YAML too."""
    lines = []
    for key, value in document.items():
        said = key if re.fullmatch(r"[A-Za-z]+", key) else json.dumps(key)
        if isinstance(value, dict):
            lines += [f"{indent}{said}:", *_yaml(value, indent + "  ")]
        else:
            lines.append(f"{indent}{said}: {json.dumps(value)}")
    return lines
