"""The contract an ONNX file carries: how a sample becomes the input, what the outputs mean, where the file came from.

It lies as one JSON document in the file's ``metadata_props`` under the key ``deploykit``. Here it is plain data that is checked on
the way in (a file from a stranger may hold anything) and written in one canonical form on the way out: `inputs` says how samples
become inputs, `outputs` what a network of each task gives back, `words` what is one of a few, `document` how all is read and
written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.runtime.contract.document import KEY as KEY
    from deploykit.runtime.contract.document import MAX_BYTES as MAX_BYTES
    from deploykit.runtime.contract.document import MAX_EXAMPLE as MAX_EXAMPLE
    from deploykit.runtime.contract.document import VERSION as VERSION
    from deploykit.runtime.contract.document import Contract as Contract
    from deploykit.runtime.contract.document import input_from_dict as input_from_dict
    from deploykit.runtime.contract.document import input_to_dict as input_to_dict
    from deploykit.runtime.contract.document import loads as loads
    from deploykit.runtime.contract.document import output_from_dict as output_from_dict
    from deploykit.runtime.contract.document import output_to_dict as output_to_dict
    from deploykit.runtime.contract.inputs import MAX_AREA as MAX_AREA
    from deploykit.runtime.contract.inputs import MAX_SIDE as MAX_SIDE
    from deploykit.runtime.contract.inputs import ArrayInput as ArrayInput
    from deploykit.runtime.contract.inputs import ImageInput as ImageInput
    from deploykit.runtime.contract.outputs import MAX_LABELS as MAX_LABELS
    from deploykit.runtime.contract.outputs import TASKS as TASKS
    from deploykit.runtime.contract.outputs import DetectionOutput as DetectionOutput
    from deploykit.runtime.contract.outputs import EmbeddingOutput as EmbeddingOutput
    from deploykit.runtime.contract.outputs import MultiLabelOutput as MultiLabelOutput
    from deploykit.runtime.contract.outputs import Output as Output
    from deploykit.runtime.contract.outputs import RegressionOutput as RegressionOutput
    from deploykit.runtime.contract.outputs import SegmentationOutput as SegmentationOutput
    from deploykit.runtime.contract.tuned import Tuned as Tuned
    from deploykit.runtime.contract.words import Activation as Activation
    from deploykit.runtime.contract.words import Fit as Fit
    from deploykit.runtime.contract.words import Interpolation as Interpolation
    from deploykit.runtime.contract.words import Task as Task

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "document": [
            "Contract",
            "KEY",
            "MAX_BYTES",
            "MAX_EXAMPLE",
            "VERSION",
            "input_from_dict",
            "input_to_dict",
            "loads",
            "output_from_dict",
            "output_to_dict",
        ],
        "inputs": ["ArrayInput", "ImageInput", "MAX_AREA", "MAX_SIDE"],
        "outputs": [
            "DetectionOutput",
            "EmbeddingOutput",
            "MAX_LABELS",
            "MultiLabelOutput",
            "Output",
            "RegressionOutput",
            "SegmentationOutput",
            "TASKS",
        ],
        "tuned": ["Tuned"],
        "words": ["Activation", "Fit", "Interpolation", "Task"],
    },
)
