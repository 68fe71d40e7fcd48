"""Your own PyTorch network, from its class to an app, in one go.

python examples/own_network.py own.onnx

The same on the command line, in this folder: deploykit export own_network:Own --untrained --input-shape 3x32x32 --out own.onnx
"""

import sys

import numpy as np
import torch
from torch import Tensor, nn

import deploykit


class Own(nn.Module):
    """Two convolutions with a skip between them, and a head for five classes."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, kernel_size=3, padding=1)
        self.second = nn.Conv2d(16, 16, kernel_size=3, padding=1)
        self.head = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Images (batch, 3, h, w) -> logits (batch, classes)."""
        x = torch.relu(self.first(x))
        x = x + torch.relu(self.second(x))
        return self.head(x.mean(dim=(2, 3)))


def main() -> None:
    """Export the network with fresh weights, prove the file is the same network, run it without PyTorch."""
    result = deploykit.export(Own(), input_shapes=(3, 32, 32), out=sys.argv[1])
    print(f"{result.file}: {result.nodes} nodes, verdict: {result.verdict.verdict}")
    with deploykit.Predictor(result.file) as model:
        batch = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
        print("logits", model.run(batch).shape, "on", model.device)


if __name__ == "__main__":
    main()
