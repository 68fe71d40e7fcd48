"""What a served model is and has done: metadata, configuration and statistics, as Triton's clients read them."""

from __future__ import annotations

from typing import Any

from deploykit._version import __version__
from deploykit.serving.models import Model, Models, Served
from deploykit.serving.tensors import Tensor

PLATFORM = "onnx_onnxv1"
EXTENSIONS = (
    "classification",
    "binary_tensor_data",
    "binary_tensor_data_input",
    "binary_tensor_data_output",
    "model_repository",
    "model_configuration",
    "parameters",
    "statistics",
)
# Triton's names of datatypes in a configuration
CONFIG_TYPES = {"BYTES": "TYPE_STRING"}


def server() -> dict[str, Any]:
    """`GET v2`."""
    return {"name": "deploykit", "version": __version__, "extensions": list(EXTENSIONS)}


def model(served: Served, all_versions: list[str]) -> dict[str, Any]:
    """`GET v2/models/M`: shapes are whole, -1 where any size goes."""
    return {
        "name": served.name,
        "versions": all_versions,
        "platform": PLATFORM,
        "inputs": [_tensor(tensor) for tensor in served.signature.inputs],
        "outputs": [_tensor(tensor) for tensor in served.signature.outputs],
    }


def config(served: Served) -> dict[str, Any]:
    """`GET v2/models/M/config`: with `max_batch_size` above 0, dims are without the batch."""
    batch = served.max_batch_size
    found: dict[str, Any] = {
        "name": served.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": batch,
        "input": [_configured(tensor, batch) for tensor in served.signature.inputs],
        "output": [_configured(tensor, batch) for tensor in served.signature.outputs],
        "instance_group": [{"name": served.name, "kind": _kind(served), "count": served.settings.instances}],
        "default_model_filename": served.path.name,
    }
    if batch:
        delay = round(served.settings.delay * 1e6)
        found["dynamic_batching"] = {"preferred_batch_size": [batch], "max_queue_delay_microseconds": delay}
    return found


def statistics(served: Served) -> dict[str, Any]:
    """One entry of `model_stats`: counts, and sums of nanoseconds."""
    figures = served.batcher.figures()
    done = figures.requests
    compute, queue = _ns(figures.computed), _ns(figures.queued)
    return {
        "name": served.name,
        "version": served.version,
        "last_inference": round(served.last_inference * 1000),
        "inference_count": figures.rows,
        "execution_count": figures.executions,
        "inference_stats": {
            "success": {"count": done, "ns": queue + compute},
            "fail": {"count": sum(served.refused.values()), "ns": _ns(figures.failed_seconds)},
            "queue": {"count": done, "ns": queue},
            "compute_input": {"count": done, "ns": 0},
            "compute_infer": {"count": done, "ns": compute},
            "compute_output": {"count": done, "ns": 0},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
            "cancel": {"count": figures.cancelled, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": runs, "ns": 0},
                "compute_infer": {"count": runs, "ns": _ns(seconds)},
                "compute_output": {"count": runs, "ns": 0},
            }
            for size, (runs, seconds) in sorted(figures.sizes.items())
        ],
    }


def index(models: Models, ready_only: bool = False) -> list[dict[str, str]]:
    """`POST v2/repository/index`: every model's versions with their state."""
    found: list[dict[str, str]] = []
    for name in models.names():
        each: Model = models.model(name)
        found += [{"name": name, "version": version, "state": "READY", "reason": each.reason} for version in each.versions]
        if not each.versions and not ready_only:
            found.append({"name": name, "version": "", "state": each.state, "reason": each.reason})
    return found


def contract(served: Served) -> dict[str, Any]:
    """What the file says about itself, for people: how an image becomes the input, what it answers, its verdict, where it runs."""
    predictor, found = served.predictor, served.predictor.contract
    verdict = None if found is None or found.verdict is None else found.verdict.get("verdict")
    return {
        "name": served.name,
        "version": served.version,
        "device": predictor.device,
        "file": served.path.name,
        "has_contract": found is not None,
        "takes_images": served.takes_images,
        "input": None if found is None else vars(found.input),
        "activation": None if found is None else found.output.activation,
        "labels": None if found is None or found.output.labels is None else list(found.output.labels[:1000]),
        "verdict": verdict if isinstance(verdict, str) else None,
        "network": None if found is None else _text(found.provenance.get("network")),
        "shares_runs": served.batcher.together,
        "note": served.note,
        "max_batch_size": served.max_batch_size,
        "tensors": {
            "inputs": [_tensor(t) for t in served.signature.inputs],
            "outputs": [_tensor(t) for t in served.signature.outputs],
        },
    }


def live(served: Served) -> dict[str, Any]:
    """The figures of this moment: counts since it was loaded, milliseconds over the latest requests."""
    figures = served.batcher.figures()
    return {
        "requests": figures.requests,
        "rows": figures.rows,
        "executions": figures.executions,
        "mean_batch": round(figures.mean_rows, 3),
        "refused": sum(served.refused.values()),
        "waiting": figures.waiting,
        "running": figures.running,
        "p50_ms": _ms(served.latencies.quantile(0.5)),
        "p99_ms": _ms(served.latencies.quantile(0.99)),
    }


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype.name, "shape": list(tensor.shape)}


def _configured(tensor: Tensor, batch: int) -> dict[str, Any]:
    dims = list(tensor.shape[1:] if batch else tensor.shape)
    found: dict[str, Any] = {"name": tensor.name, "data_type": config_type(tensor.datatype.name), "dims": dims or [1]}
    if not dims:
        found["reshape"] = {"shape": []}
    return found


def config_type(datatype: str) -> str:
    """FP32 -> TYPE_FP32, BYTES -> TYPE_STRING."""
    return CONFIG_TYPES.get(datatype, f"TYPE_{datatype}")


def _kind(served: Served) -> str:
    return "KIND_GPU" if served.predictor.device == "cuda" else "KIND_CPU"


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
