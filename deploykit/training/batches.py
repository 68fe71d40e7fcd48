"""A split as tensors, a batch at a time: resized pixels are kept as bytes where they fit in memory, and scaled per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from deploykit.datasets import Split, as_image
from deploykit.runtime.contract import ArrayInput, ImageInput
from deploykit.runtime.preprocessing import normalize, to_pixels

KEEP_BYTES = 4 << 30


class Batches(Dataset[Any]):
    """`batches.__getitems__([3, 1])` -> (inputs, targets): float32 (2, *shape), and int64 (2,) or float32 (2, outputs).

    The targets of a split with masks are int64 (2, height, width), resized and cut as the images are.

    The same preprocessing as in `deploykit.runtime`, so a deployed file sees what the network learned from.
    """

    def __init__(self, split: Split, rules: ImageInput | ArrayInput) -> None:
        self.split = split
        self.rules = rules
        self.targets = np.ascontiguousarray(split.targets)
        self._kept = self._all(self._read)
        self._masks = self._all(self._mask) if split.masks is not None else None

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        inputs, targets = self.__getitems__([index])
        return inputs[0], targets[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        """A whole batch at once; torch's DataLoader calls this."""
        kept, chosen = self._kept, np.asarray(indices)
        raw = kept[chosen] if kept is not None else np.stack([self._read(index) for index in indices])
        inputs = normalize(raw, self.rules) if isinstance(self.rules, ImageInput) else raw
        return torch.from_numpy(inputs), torch.from_numpy(self._targets(indices))

    def _targets(self, indices: list[int]) -> NDArray[Any]:
        if self.split.masks is None:
            return np.asarray(self.targets[np.asarray(indices)])
        kept = self._masks
        masks = kept[np.asarray(indices)] if kept is not None else np.stack([self._mask(index) for index in indices])
        return masks.astype(np.int64)

    def _mask(self, index: int) -> NDArray[np.uint8]:
        """One mask as the image is fitted: uint8 (height, width)."""
        masks, rules = self.split.masks, self.rules
        if masks is None or not isinstance(rules, ImageInput):
            raise TypeError("only images have masks")
        # One more than the class, so that pixels beside the image, which are 0 then, are those that do not count.
        shifted = Image.fromarray((masks[index].astype(np.int16) + 1).astype(np.uint8))
        plain = replace(rules, channels=1, interpolation="nearest", mean=(0.0,), std=(1.0,), background=0)
        return to_pixels(shifted, plain)[:, :, 0] - np.uint8(1)

    def _read(self, index: int) -> NDArray[Any]:
        if isinstance(self.rules, ImageInput):
            return to_pixels(as_image(self.split.samples[index]), self.rules)
        return self.split.array(index, self.rules)

    def _all(self, read: Callable[[int], NDArray[Any]]) -> NDArray[Any] | None:
        if not len(self.split):
            return None
        first = read(0)
        if first.nbytes * len(self.split) > KEEP_BYTES:
            return None
        kept = np.empty((len(self.split), *first.shape), first.dtype)
        for index in range(len(self.split)):
            kept[index] = read(index)
        return kept
