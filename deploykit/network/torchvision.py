"""torchvision's classification networks: how each is built, what its published weights expect, and what lies in their files.

A published file carries the start of its SHA-256 in its name on the server, by which it is recognized here whatever it is called
now: `resnet50` has two, which were trained with different preprocessing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deploykit import files
from deploykit.network import checkpoint
from deploykit.runtime.contract import ImageInput

# Their auxiliary heads exist for training alone; torchvision builds them by default.
WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")
VIT_SIZE = 224
_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")


def names() -> list[str]:
    """All of them. Raises `ImportError` without torchvision."""
    from torchvision import models

    return list(models.list_models(module=models))


def published(name: str, file: Path | None) -> Any | None:
    """The entry of torchvision's list of weights that `file` is, `None` for any other file."""
    from torchvision import models

    if file is None or not file.is_file():
        return None
    digest = files.sha256(file)
    for entry in models.get_model_weights(name):
        start = re.search(r"-([0-9a-f]{8,})\.pth$", str(entry.url))
        if start and digest.startswith(start[1]):
            return entry
    return None


def usual(name: str, given: Mapping[str, Any]) -> Any:
    """The entry for files that torchvision does not know: its own choice, or one for images of the size given."""
    from torchvision import models

    entries = models.get_model_weights(name)
    size = given.get("image_size")
    return next((entry for entry in (entries.DEFAULT, *entries) if size in (None, rules(entry).height)), entries.DEFAULT)


def keywords(name: str, entry: Any | None, tensors: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """For the constructor, as torchvision sets them itself where it loads the weights of `entry`.

    A vision transformer is made for one size of image: that of the entry, else that of its `tensors`, else torchvision's 224.
    """
    found: dict[str, Any] = {"aux_logits": False, "init_weights": True} if name in WITH_AUXILIARY_HEADS else {}
    if entry is not None and name in WITH_AUXILIARY_HEADS:
        found["transform_input"] = True  # these weights were trained with another mean and std than their transforms state
    if name.startswith("vit_"):
        found["image_size"] = entry.meta["min_size"][0] if entry is not None else _image_size(name, tensors or {})
    return found


def left_out(given: Mapping[str, Any]) -> tuple[str, ...]:
    """A note where a network is built without what torchvision's own count of its parameters has in it."""
    if given.get("aux_logits") is not False:
        return ()
    return ("built without its auxiliary heads, which exist for training alone: torchvision counts their parameters too",)


def _image_size(name: str, tensors: Mapping[str, Tensor]) -> int:
    """A position per patch and one for the class; the size of a patch is the last part of the name."""
    positions = checkpoint.spelled_like(tensors, {"encoder.pos_embedding": None}).get("encoder.pos_embedding")
    if positions is None or positions.ndim != 3:
        return VIT_SIZE
    return math.isqrt(max(positions.shape[1] - 1, 1)) * int(name.rpartition("_")[2])


def builder(name: str) -> Any:
    """What makes the network."""
    from torchvision import models

    return models.get_model_builder(name)


def as_built_today(tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without heads that the network was built without, and with today's names: DenseNet's were once ``norm.1``, not ``norm1``."""
    today = {_OLD_DENSENET.sub(r"\1\2.", name): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in today.items() if name in wanted or not name.startswith(_HEADS)}


def rules(entry: Any, side: int | None = None) -> ImageInput:
    """The preprocessing of an entry's transforms; for images of another `side` they are resized to it, and nothing is cut off."""
    transforms = entry.transforms()
    own = transforms.crop_size[0]
    return ImageInput(
        channels=3,
        height=side or own,
        width=side or own,
        interpolation=transforms.interpolation.value,
        fit="center-crop",
        resize=transforms.resize_size[0] if side in (None, own) else side,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
