"""Do PyTorch's side and the exported graph's side of the report cost the same? Every shipped network, a dozen of torchvision's.

    python benchmarks/onnx_agreement.py [NAME ...]

Exit status 1 if a difference is not explained by the nodes that the report names.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _results import keep

from deploykit import architectures, exporter, onnx_file
from deploykit.network import target
from deploykit.profiler import joining
from deploykit.profiler.onnx.nodes import count_nodes
from deploykit.profiler.pytorch.layers import count_layers
from deploykit.reports import Column, Report, Table

DOZEN = (
    "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "maxvit_t", "mnasnet1_0",
    "mobilenet_v3_small", "regnet_y_400mf", "resnet50", "shufflenet_v2_x1_0", "swin_t", "vit_b_32",
)  # fmt: skip
COLUMNS = (
    Column("name", "network"),
    Column("torch", "MACs in PyTorch", "count"),
    Column("onnx", "MACs in the graph", "count"),
    Column("seconds", "export", "seconds"),
    Column("note", "explained by"),
)


def compare(name: str, folder: Path) -> dict[str, Any]:
    """Export one network and count both sides."""
    network = target.resolve(name, untrained=True)
    began = time.perf_counter()
    model = exporter.to_onnx(network)
    seconds = time.perf_counter() - began
    file = folder / "model.onnx"
    onnx_file.write(model, file)
    mine = count_layers(network.module, [spec.random(1) for spec in network.inputs])
    theirs = count_nodes(model, batch=1, file=file)
    joined = joining.with_onnx(mine, theirs, joining.module_paths(model.graph))
    note = "; ".join(note for note in joined.notes if "differ" in note or "not counted" in note)
    return {"name": name, "torch": mine.totals.ops, "onnx": theirs.totals.ops, "seconds": seconds, "note": note}


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="TARGETs; all by default")
    chosen = parser.parse_args().names or [*architectures.names(), *(f"torchvision:{name}" for name in DOZEN)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [compare(name, Path(folder)) for name in chosen]
    same = sum(row["torch"] == row["onnx"] for row in rows)
    good = all(row["torch"] == row["onnx"] or row["note"] for row in rows)
    report = Report(f"{len(rows)} networks", rows, f"{same} of {len(rows)} agree exactly", good, tables=[Table("", COLUMNS, rows)])
    keep("onnx_agreement", report)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
