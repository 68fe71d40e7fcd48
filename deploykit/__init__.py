"""deploykit: from a PyTorch checkpoint to an ONNX file that an application can trust.

Every command of the command line has its twin here::

    import deploykit

    deploykit.train("lenet5")                       # -> TrainingResult
    deploykit.export("lenet5")                      # -> ExportResult
    deploykit.validate("trained/lenet5/model.onnx") # -> Verdict
    deploykit.profile("lenet5")                     # -> Profile
    deploykit.tune("lenet5")                        # -> TuneResult
    deploykit.Predictor("trained/lenet5/model.onnx").predict("three.png")

`export`, `validate` and `profile` take an `nn.Module` too, paths are `str` or `Path`, and `print(result)` shows what the
command prints.

Importing this package imports nothing heavy: a name loads its module on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit._version import __version__ as __version__
from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.datasets import list_datasets as list_datasets
    from deploykit.demonstration import Demonstration as Demonstration
    from deploykit.demonstration import demo as demo
    from deploykit.errors import DeploykitError as DeploykitError
    from deploykit.errors import DeviceUnavailable as DeviceUnavailable
    from deploykit.errors import InputError as InputError
    from deploykit.exporter import ExportResult as ExportResult
    from deploykit.exporter import export as export
    from deploykit.network.checkpoint import Checkpoint as Checkpoint
    from deploykit.network.checkpoint import load_checkpoint as load_checkpoint
    from deploykit.network.checkpoint import save_checkpoint as save_checkpoint
    from deploykit.profiler import LatencyReport as LatencyReport
    from deploykit.profiler import Profile as Profile
    from deploykit.profiler import compare_latency as compare_latency
    from deploykit.profiler import list_architectures as list_architectures
    from deploykit.profiler import profile as profile
    from deploykit.runtime import Diagnosis as Diagnosis
    from deploykit.runtime import Prediction as Prediction
    from deploykit.runtime import Predictions as Predictions
    from deploykit.runtime import Predictor as Predictor
    from deploykit.runtime import doctor as doctor
    from deploykit.runtime import predict as predict
    from deploykit.serving.packaging import package as package
    from deploykit.serving.server import serve as serve
    from deploykit.simplifier import Simplified as Simplified
    from deploykit.simplifier import simplify as simplify
    from deploykit.training import TrainingResult as TrainingResult
    from deploykit.training import train as train
    from deploykit.tuner import TuneResult as TuneResult
    from deploykit.tuner import tune as tune
    from deploykit.verdict import Verdict as Verdict
    from deploykit.verdict import validate as validate

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "datasets": ["list_datasets"],
        "demonstration": ["Demonstration", "demo"],
        "errors": ["DeploykitError", "DeviceUnavailable", "InputError"],
        "exporter": ["ExportResult", "export"],
        "network.checkpoint": ["Checkpoint", "load_checkpoint", "save_checkpoint"],
        "profiler": ["LatencyReport", "Profile", "compare_latency", "list_architectures", "profile"],
        "runtime": ["Diagnosis", "Prediction", "Predictions", "Predictor", "doctor", "predict"],
        "serving.packaging": ["package"],
        "serving.server": ["serve"],
        "simplifier": ["Simplified", "simplify"],
        "training": ["TrainingResult", "train"],
        "tuner": ["TuneResult", "tune"],
        "verdict": ["Verdict", "validate"],
    },
)
__all__ += ["__version__"]
