"""What apps embed: numpy, onnxruntime and Pillow; never torch, never onnx.

::

    from deploykit.runtime import Predictor

    with Predictor("trained/lenet5/model.onnx") as model:
        model.predict("three.png")                  # Prediction(label="3", score=0.998, ...)
        for answer in model.predict_many(paths):    # lazily, in order; a bad image spoils only itself
            print(answer.path, answer.label, answer.error)
        model.run(array)                            # the raw output

Importing this package loads nothing; a name loads its module on first use, so that training can share
`deploykit.runtime.contract` and `deploykit.runtime.preprocessing` where onnxruntime is not installed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deploykit.runtime.batch import expand, predict
    from deploykit.runtime.diagnosis import Diagnosis, Provider, doctor
    from deploykit.runtime.prediction import Candidate, Prediction
    from deploykit.runtime.predictor import Predictor

# Where each public name lives; resolved on first use (PEP 562).
_HOME = {
    "Candidate": "prediction",
    "Diagnosis": "diagnosis",
    "Prediction": "prediction",
    "Predictor": "predictor",
    "Provider": "diagnosis",
    "doctor": "diagnosis",
    "expand": "batch",
    "predict": "batch",
}

__all__ = ["Candidate", "Diagnosis", "Prediction", "Predictor", "Provider", "doctor", "expand", "predict"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'deploykit.runtime' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"deploykit.runtime.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
