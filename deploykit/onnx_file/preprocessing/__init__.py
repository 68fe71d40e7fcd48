"""Preprocessing inside the file: raw uint8 images of any size go in, and the graph does what the Python runtime would do.

`embed` puts the contract's `ImageInput` rules in front of an exported graph, `split` takes them off again. The pixels are
Pillow's to the last bit (see `_resize`), so an application in any language gets the answers of the Python pipeline.
"""

from deploykit.onnx_file.preprocessing.embedding import Parts, embed, split

__all__ = ["Parts", "embed", "split"]
