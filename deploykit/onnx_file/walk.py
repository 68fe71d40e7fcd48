"""What lies in a graph: its nodes and values, those inside the bodies of nodes included."""

from __future__ import annotations

SCOPES = "pkg.torch.onnx.name_scopes"  # a node's metadata entry in which torch.onnx writes the modules around it
