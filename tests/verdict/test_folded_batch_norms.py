"""BatchNorm folded into what precedes it: into a transposed convolution, and at the end of a network, where no value is called so."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import deploykit


class Two(nn.Module):
    """Features and what comes of them."""

    def __init__(self):
        super().__init__()
        self.see = nn.Conv2d(4, 8, 3)
        self.even = nn.BatchNorm2d(8)

    def forward(self, x):
        found = self.even(self.see(x))
        return {"features": found, "pooled": found.mean((2, 3))}


NETWORKS = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8)), (4, 9, 9)),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8)), (6,)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), (4, 9, 9)),
    "transposed at the end": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8)), (4, 9, 9)),
    "transposed in groups": (lambda: nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.ReLU()), (4, 9, 9)),
    "two outputs": (Two, (4, 9, 9)),
}


@pytest.fixture(params=list(NETWORKS))
def network(request):
    torch.manual_seed(0)
    build, shape = NETWORKS[request.param]
    found = build().eval()
    for part in found.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 2)
            nn.init.normal_(part.bias)
    return found, shape


def test_a_right_file_is_the_same_and_one_with_a_weight_changed_is_not(tmp_path, network):
    net, shape = network
    result = deploykit.export(net, input_shapes=shape, out=tmp_path / "net.onnx")
    assert result.verdict.same, [check for check in result.verdict.checks if not check.passed]
    model = onnx.load(result.file)
    stored = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
    values = numpy_helper.to_array(stored).copy()
    values.reshape(-1)[3] *= 1.01
    stored.CopyFrom(numpy_helper.from_array(values, stored.name))
    onnx.save(model, tmp_path / "changed.onnx")
    assert deploykit.validate(tmp_path / "changed.onnx", net, input_shapes=shape).verdict == "different"
