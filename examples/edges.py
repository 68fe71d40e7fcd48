"""Find edges in a photograph with a fixed and with a learned kernel; the app knows only the deployed files.

python examples/edges.py photo.jpg edges.png --fixed trained/laplacian/model.onnx --learned trained/edge-kernel/model.onnx

Each file is exported once, for images of any size:
deploykit train laplacian && deploykit export laplacian --dynamic batch,height,width
deploykit train edge-kernel && deploykit export edge-kernel --dynamic batch,height,width
"""

import argparse

import numpy as np
from PIL import Image

from deploykit.runtime import Predictor


def edges(file: str, photo: np.ndarray) -> np.ndarray:
    """How strong the edge is at each pixel, 0..255; `photo` is float32 (height, width), 0..1."""
    with Predictor(file, device="cpu") as model:
        response = np.abs(model.run(photo[None, None])[0, 0])
    return np.clip(255 * response / np.quantile(response, 0.995), 0, 255).astype(np.uint8)


def main() -> None:
    """Write the photograph, the fixed kernel's edges and the learned one's side by side."""
    parser = argparse.ArgumentParser(description="Edges of a photograph.")
    parser.add_argument("photo")
    parser.add_argument("out")
    parser.add_argument("--fixed", default="trained/laplacian/model.onnx")
    parser.add_argument("--learned", default="trained/edge-kernel/model.onnx")
    arguments = parser.parse_args()
    grey = Image.open(arguments.photo).convert("L")
    photo = np.asarray(grey, np.float32) / 255
    width, height = grey.size
    picture = Image.new("L", (3 * width, height))
    picture.paste(grey, (0, 0))
    for place, file in enumerate((arguments.fixed, arguments.learned), start=1):
        picture.paste(Image.fromarray(edges(file, photo)), (place * width, 0))
    picture.save(arguments.out)
    print(f"wrote {arguments.out}: {picture.width}x{picture.height}")


if __name__ == "__main__":
    main()
