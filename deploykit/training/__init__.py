"""Training: a recipe and a loop become a checkpoint, a history and a picture of the curves.

`loop` is the story; `plan`, `state`, `earlier`, `optimization`, `processes`, `batches`, `augment` and `record` are its parts.
"""

from deploykit.training.loop import train
from deploykit.training.processes import is_main_process
from deploykit.training.result import TrainingResult

__all__ = ["TrainingResult", "is_main_process", "train"]
