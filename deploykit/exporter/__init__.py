"""Export: a network becomes one ONNX file, simplified, proven, with its contract inside."""

from __future__ import annotations

from deploykit.exporter.exporting import OPSET, OPSETS, ExportResult, contract_of, default_file, export, to_onnx

__all__ = ["OPSET", "OPSETS", "ExportResult", "contract_of", "default_file", "export", "to_onnx"]
