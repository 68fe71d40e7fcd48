"""A network of each of torchvision's families, exported with fresh weights: the same network, at batches the export has not seen.

All 80 are in `benchmarks/torchvision_sweep.py`. Where a network takes other sizes, a small image keeps this short.
"""

from __future__ import annotations

import pytest

from deploykit.exporter import export

SMALL = [(3, 96, 96)]
FAMILIES = {
    "alexnet": SMALL,
    "convnext_tiny": SMALL,
    "densenet121": SMALL,
    "efficientnet_b0": SMALL,
    "googlenet": SMALL,
    "mnasnet0_5": SMALL,
    "mobilenet_v3_small": SMALL,
    "regnet_y_400mf": SMALL,
    "resnet18": SMALL,
    "shufflenet_v2_x0_5": SMALL,
    "squeezenet1_1": SMALL,
    "swin_t": SMALL,
    "vit_b_32": None,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_export_is_the_same_network(name, tmp_path):
    result = export(f"torchvision:{name}", untrained=True, input_shapes=FAMILIES[name], out=tmp_path / "model.onnx")
    verdict = result.verdict
    assert verdict.same, [check for check in verdict.checks if not check.passed]
    assert verdict.layers_compared >= 10
    assert verdict.errors.onnx_vs_64 <= verdict.errors.tolerance
