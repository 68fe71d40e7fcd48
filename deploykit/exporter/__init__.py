"""Export: a network becomes one ONNX file, simplified, proven, with its contract inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from deploykit.lazy import attach

if TYPE_CHECKING:
    from deploykit.exporter.exporting import OPSET as OPSET
    from deploykit.exporter.exporting import OPSETS as OPSETS
    from deploykit.exporter.exporting import ExportResult as ExportResult
    from deploykit.exporter.exporting import contract_of as contract_of
    from deploykit.exporter.exporting import default_file as default_file
    from deploykit.exporter.exporting import export as export
    from deploykit.exporter.exporting import to_onnx as to_onnx

# A report of layers counts a network without exporting it, and without the verdict that an export ends with.
__getattr__, __dir__, __all__ = attach(
    __name__, {"exporting": ["OPSET", "OPSETS", "ExportResult", "contract_of", "default_file", "export", "to_onnx"]}
)
