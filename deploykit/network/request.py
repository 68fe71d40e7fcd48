"""How a network is asked for: a TARGET, and the values that go with it. Plain data; no file is opened, no PyTorch loaded."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import nn

    from deploykit.runtime.values import Values

WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar", ".pkl")  # ends of a checkpoint's name
TORCHVISION = "torchvision:"

Kind = Literal["architecture", "callable", "checkpoint", "onnx", "torchvision"]


@dataclass(frozen=True)
class Target:
    """A TARGET as it is spelled: which of the five kinds it is, and its parts.

    `name`: an architecture of deploykit, a network of torchvision, the path of a checkpoint or ONNX file, or the name of a callable
    in the module `package`, which is empty for the other kinds.
    """

    kind: Kind
    name: str
    package: str = ""

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `lenet5`, `torchvision:resnet18`, `package.module:callable`, `model.safetensors` or `model.onnx`.

        Any other text is the name of an architecture, whether there is such a one or not.
        """
        if text.lower().endswith(".onnx"):
            return cls("onnx", text)
        if text.endswith(WEIGHTS):
            return cls("checkpoint", text)
        if text.startswith(TORCHVISION):
            return cls("torchvision", text.removeprefix(TORCHVISION))
        package, colon, attribute = text.partition(":")
        return cls("callable", attribute, package) if colon else cls("architecture", text)


def is_onnx(target: str) -> bool:
    """Whether a TARGET names an ONNX file."""
    return Target.parse(target).kind == "onnx"


@dataclass(frozen=True)
class Request:
    """A network as a user asks for it; what is not said is `None` and left to the network, its checkpoint or its file.

    `target`: see `Target`. `module`: the network itself, ready made; `target` is then what messages call it. `checkpoint`: weights
    to load instead of the usual ones. `untrained`: fresh weights, made from `seed` (0 where none is said), are fine. `arguments`:
    for the network's constructor. `input_shapes` (without the batch) and `input_dtypes` (torch's names): one per input, in order.
    `inputs`: arrays by input, or the `.npz` file that holds them: values as they occur, with a batch.

    A new value goes here, into the keywords of the Python functions that take one, and into the options of `cli/_common.py`; all
    between hands on the whole request.
    """

    target: str
    _: KW_ONLY
    module: nn.Module | None = None
    checkpoint: Path | None = None
    untrained: bool = False
    seed: int | None = None
    arguments: Mapping[str, Any] | None = None
    input_shapes: Sequence[tuple[int, ...]] | None = None
    input_dtypes: Sequence[str] | None = None
    inputs: Values | Path | str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file."""
        return self.module is None and is_onnx(self.target)

    def keywords(self) -> dict[str, Any]:
        """All but the network itself, by the names under which `export`, `profile` and `validate` take them."""
        return {each.name: getattr(self, each.name) for each in fields(Request) if each.name not in ("target", "module")}


def make_importable(request: Request) -> None:
    """Put the current folder last on `sys.path`, for what the network of a callable imports while it runs.

    For processes that are deploykit's own, a command and a worker: to build a network, `resolve` looks there by itself, and leaves
    `sys.path` as it was. Last, so that no file there stands in for a library.
    """
    if request.module is None and Target.parse(request.target).kind == "callable":
        sys.path.append(str(Path.cwd()))
