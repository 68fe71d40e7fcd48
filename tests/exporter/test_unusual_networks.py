"""Right networks that are written in unusual ways: each is exported, called the same, and right at another batch."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import deploykit


class Mapped(nn.Module):
    """A layer that is called for each sample apart, by torch.vmap."""

    def __init__(self):
        super().__init__()
        self.tell = nn.Linear(6, 4)

    def forward(self, x):
        return torch.vmap(lambda row: self.tell(row) * row.norm())(x)


class Likely(nn.Module):
    """torch.distributions, which check their parameters."""

    def __init__(self):
        super().__init__()
        self.tell = nn.Linear(6, 4)

    def forward(self, x):
        y = self.tell(x)
        found = torch.distributions.Normal(y, nn.functional.softplus(y) + 0.1)
        return found.log_prob(torch.zeros(())), torch.distributions.Categorical(logits=y).entropy()


class Towers(nn.Module):
    """Two towers, and how alike each image is to each text."""

    def __init__(self):
        super().__init__()
        self.see = nn.Linear(6, 5)
        self.read = nn.EmbeddingBag(40, 5)

    def forward(self, image, text):
        a, b = self.see(image), self.read(text)
        return a @ b.T, a, b


class Gaps(nn.Module):
    """NaN that is chosen, and nothing is calculated with."""

    def forward(self, x):
        return torch.nanmean(torch.where(x > -1, x, torch.nan), 1)


@pytest.mark.parametrize("build", [Mapped, Likely, Towers, Gaps])
def test_it_is_the_same(tmp_path, build):
    torch.manual_seed(0)
    net = build().eval()
    two = build is Towers

    def inputs(rows):
        return (torch.randn(rows, 6), torch.randint(0, 40, (rows, 3))) if two else (torch.randn(rows, 6),)

    net.example_inputs = inputs(2)
    before = torch.distributions.Distribution._validate_args
    result = deploykit.export(net, out=tmp_path / "net.onnx")
    assert torch.distributions.Distribution._validate_args is before
    assert result.verdict.same, result.verdict
    session = onnxruntime.InferenceSession(str(result.file), providers=["CPUExecutionProvider"])
    given = inputs(7)
    with torch.no_grad():
        wanted = net(*given)
    feeds = {entry.name: tensor.numpy() for entry, tensor in zip(session.get_inputs(), given, strict=True)}
    for right, found in zip(wanted if isinstance(wanted, tuple) else (wanted,), session.run(None, feeds), strict=True):
        np.testing.assert_allclose(found, right.numpy(), rtol=1e-4, atol=1e-5)
