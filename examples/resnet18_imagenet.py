"""ResNet-18 with torchvision's ImageNet weights: from the weights file to the label of a photograph.

python examples/resnet18_imagenet.py resnet18.pth photo.jpg

The weights are https://download.pytorch.org/models/resnet18-f37072fd.pth; deploykit itself downloads nothing.
"""

import sys
from pathlib import Path

import deploykit


def main() -> None:
    """Export with these weights, then let the deployed file look at the photograph."""
    weights, photo = Path(sys.argv[1]), sys.argv[2]
    result = deploykit.export("torchvision:resnet18", checkpoint=weights, out=weights.with_suffix(".onnx"))
    print(f"{result.file}: verdict: {result.verdict.verdict}")
    with deploykit.Predictor(result.file) as model:
        for candidate in model.predict(photo, top=5).top:
            print(f"{candidate.score:6.1%}  {candidate.label}")


if __name__ == "__main__":
    main()
