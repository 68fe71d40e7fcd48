"""deploykit: from a PyTorch checkpoint to an ONNX file that an application can trust.

Every command of the command line has its twin here::

    import deploykit

    deploykit.train("lenet5")                       # -> TrainingResult
    deploykit.export("lenet5")                      # -> ExportResult
    deploykit.validate("trained/lenet5/model.onnx") # -> Verdict
    deploykit.profile("lenet5")                     # -> Profile
    deploykit.Predictor("trained/lenet5/model.onnx").predict("three.png")

Importing this package imports nothing heavy: a name loads its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit._version import __version__

if TYPE_CHECKING:
    from deploykit.datasets import list_datasets
    from deploykit.demonstration import demo
    from deploykit.errors import DeploykitError, DeviceUnavailable, InputError
    from deploykit.exporter import export
    from deploykit.network.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from deploykit.profiler import compare_latency, list_architectures, profile
    from deploykit.runtime import Predictor, doctor, predict
    from deploykit.simplifier import simplify
    from deploykit.training import train
    from deploykit.verdict import validate

# Where each public name lives; resolved on first use (PEP 562).
_HOME = {
    "Checkpoint": "deploykit.network.checkpoint",
    "DeploykitError": "deploykit.errors",
    "DeviceUnavailable": "deploykit.errors",
    "InputError": "deploykit.errors",
    "Predictor": "deploykit.runtime",
    "compare_latency": "deploykit.profiler",
    "demo": "deploykit.demonstration",
    "doctor": "deploykit.runtime",
    "export": "deploykit.exporter",
    "list_architectures": "deploykit.profiler",
    "list_datasets": "deploykit.datasets",
    "load_checkpoint": "deploykit.network.checkpoint",
    "predict": "deploykit.runtime",
    "profile": "deploykit.profiler",
    "save_checkpoint": "deploykit.network.checkpoint",
    "simplify": "deploykit.simplifier",
    "train": "deploykit.training",
    "validate": "deploykit.verdict",
}

__all__ = [
    "Checkpoint",
    "DeploykitError",
    "DeviceUnavailable",
    "InputError",
    "Predictor",
    "__version__",
    "compare_latency",
    "demo",
    "doctor",
    "export",
    "list_architectures",
    "list_datasets",
    "load_checkpoint",
    "predict",
    "profile",
    "save_checkpoint",
    "simplify",
    "train",
    "validate",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'deploykit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
