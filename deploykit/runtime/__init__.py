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

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.runtime.batch import predict as predict
    from deploykit.runtime.batching import Batcher as Batcher
    from deploykit.runtime.diagnosis import Diagnosis as Diagnosis
    from deploykit.runtime.diagnosis import Provider as Provider
    from deploykit.runtime.diagnosis import doctor as doctor
    from deploykit.runtime.paths import expand as expand
    from deploykit.runtime.prediction import Candidate as Candidate
    from deploykit.runtime.prediction import Classification as Classification
    from deploykit.runtime.prediction import Prediction as Prediction
    from deploykit.runtime.prediction import Predictions as Predictions
    from deploykit.runtime.predictor import Predictor as Predictor
    from deploykit.runtime.results import Area as Area
    from deploykit.runtime.results import Detection as Detection
    from deploykit.runtime.results import Detections as Detections
    from deploykit.runtime.results import Embedding as Embedding
    from deploykit.runtime.results import MultiLabel as MultiLabel
    from deploykit.runtime.results import Quantity as Quantity
    from deploykit.runtime.results import Regression as Regression
    from deploykit.runtime.results import Segmentation as Segmentation
    from deploykit.runtime.waiting import Answer as Answer

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "batch": ["predict"],
        "batching": ["Batcher"],
        "diagnosis": ["Diagnosis", "Provider", "doctor"],
        "paths": ["expand"],
        "prediction": ["Candidate", "Classification", "Prediction", "Predictions"],
        "predictor": ["Predictor"],
        "results": ["Area", "Detection", "Detections", "Embedding", "MultiLabel", "Quantity", "Regression", "Segmentation"],
        "waiting": ["Answer"],
    },
)
