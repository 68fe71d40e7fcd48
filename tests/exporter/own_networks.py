"""Networks as a user has them in a file of their own: one for each task, some of which say what they take and give."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deploykit.runtime.contract import DetectionOutput, ImageInput, SegmentationOutput

NAMES = ("ground", "sky", "tree")


def seeded(layer: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.5)
    return layer


class Masks(nn.Module):
    """Three labels by colour, at a quarter of the size."""

    image_input = ImageInput(3, 48, 64, fit="letterbox", order="bgr", padding=(114,), mean=(0.4, 0.5, 0.6), std=(0.25,))
    output = SegmentationOutput(labels=NAMES)

    def __init__(self) -> None:
        super().__init__()
        self.see = seeded(nn.Conv2d(3, 8, 3, stride=2, padding=1), 0)
        self.tell = seeded(nn.Conv2d(8, 3, 3, stride=2, padding=1), 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.tell(torch.relu(self.see(image)))


class Boxes(nn.Module):
    """A box around each place of a grid of 8 x 8 pixels: centre, size, and the scores of two labels."""

    image_input = ImageInput(3, 64, 64, fit="letterbox", padding=(114,))
    output = DetectionOutput(
        "sigmoid", ("cat", "dog"), boxes="boxes", scores="scores", convention="cxcywh", threshold=0.5, iou_threshold=0.4
    )

    def __init__(self) -> None:
        super().__init__()
        self.see = seeded(nn.Conv2d(3, 6, 8, stride=8), 2)
        y, x = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
        self.register_buffer("centres", torch.stack([x, y], dim=-1).reshape(64, 2) * 8 + 4)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        found = self.see(image).flatten(2).transpose(1, 2)
        boxes = torch.cat([self.centres + 4 * torch.tanh(found[..., :2]), 24 * torch.sigmoid(found[..., 2:4])], dim=-1)
        return {"boxes": boxes, "scores": found[..., 4:]}


class Vector(nn.Module):
    """Eight numbers per image."""

    def __init__(self) -> None:
        super().__init__()
        self.see = seeded(nn.Conv2d(3, 8, 5), 3)

    def forward(self, image: Tensor) -> Tensor:
        return self.see(image).mean(dim=(2, 3))


class Measure(nn.Module):
    """Two quantities of four."""

    def __init__(self) -> None:
        super().__init__()
        self.head = seeded(nn.Linear(4, 2), 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Tags(nn.Module):
    """Three labels, each by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.head = seeded(nn.Linear(3, 3), 5)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(image.mean(dim=(2, 3)))


class Pair(nn.Module):
    """An image and five facts."""

    def __init__(self) -> None:
        super().__init__()
        self.see = seeded(nn.Conv2d(3, 4, 3), 6)
        self.know = seeded(nn.Linear(5, 4), 7)
        generator = torch.Generator().manual_seed(8)
        self.example_inputs = (torch.rand(2, 3, 16, 16, generator=generator), torch.rand(2, 5, generator=generator))

    def forward(self, image: Tensor, facts: Tensor) -> Tensor:
        return self.see(image).mean(dim=(2, 3)) + self.know(facts)


class Front(nn.Module):
    """One number per pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.tell = seeded(nn.Conv2d(3, 1, 3, padding=1), 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.tell(image)


class Whole(nn.Module):
    """Boxes and scores in one tensor: (batch, boxes, 4 + labels), or turned."""

    def __init__(self, turned: bool = False) -> None:
        super().__init__()
        self.see, self.turned = seeded(nn.Conv2d(3, 6, 4, stride=4), 9), turned

    def forward(self, image: Tensor) -> Tensor:
        found = self.see(image).flatten(2)
        return found if self.turned else found.mT
