"""Networks whose answers are called as something else is: a parameter, a buffer, a module."""

import onnxruntime
import pytest
import torch
from torch import nn

import deploykit


class Named(nn.Module):
    def __init__(self, kept):
        super().__init__()
        torch.manual_seed(0)
        self.kept = kept
        self.fc = nn.Linear(6, 4)
        self.cls = nn.Parameter(torch.randn(6))
        self.cls_parameter = nn.Parameter(torch.randn(6))
        self.register_buffer("mean", torch.randn(1))

    def forward(self, x):
        answers = {
            "cls": self.fc(x * self.cls + self.cls_parameter),
            "mean": x.mean(1) * self.mean,
            "fc": self.fc(x).softmax(-1),
            "fc.weight": x @ self.fc.weight.T,
        }
        return {name: answers[name] for name in self.kept}


@pytest.mark.parametrize("kept", [("cls",), ("mean", "cls"), ("fc.weight",), ("fc", "cls", "mean")])
def test_an_answer_called_like_a_parameter_keeps_its_name(tmp_path, kept):
    net = Named(kept).eval()
    result = deploykit.export(net, input_shapes=(6,), out=tmp_path / "net.onnx")
    assert result.verdict.same, result.verdict
    session = onnxruntime.InferenceSession(str(result.file), providers=["CPUExecutionProvider"])
    assert tuple(value.name for value in session.get_outputs()) == kept
    x = torch.randn(7, 6)
    with torch.no_grad():
        wanted = net(x)
    for name, found in zip(kept, session.run(None, {"input": x.numpy()}), strict=True):
        torch.testing.assert_close(torch.from_numpy(found), wanted[name])
