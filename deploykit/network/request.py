"""How a network is asked for: a TARGET, and the values that go with it. Plain data; no file is opened, no PyTorch loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from deploykit import arguments as read
from deploykit.errors import InputError, kind_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from deploykit.runtime.values import Values

# What public functions take where they take a network, and where they take the values of its inputs.
Asked: TypeAlias = "str | os.PathLike[str] | nn.Module"
Array: TypeAlias = "NDArray[Any] | Tensor"
Inputs: TypeAlias = "Mapping[str, Array] | Sequence[Array] | Array | str | os.PathLike[str]"

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

    `of` makes one of what the caller of a public function gave. A new value goes here, into the keywords of the Python functions
    that take one, and into the options of `cli/_common.py`; all between hands on the whole request.
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
    inputs: Values | Path | None = None

    @classmethod
    def of(
        cls,
        target: Asked,
        *,
        checkpoint: read.StrPath | None = None,
        untrained: bool = False,
        seed: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        input_shapes: read.Shapes | None = None,
        input_dtypes: read.Texts | None = None,
        inputs: Inputs | None = None,
    ) -> Self:
        """What a caller gave, checked: a text, a path or a module, and values in any form that is unambiguous.

        Raises `InputError` for what cannot be meant.
        """
        module = _module(target)
        return cls(
            _called(target, module),
            module=module,
            checkpoint=read.path_or_none(checkpoint, "checkpoint"),
            untrained=read.flag(untrained, "untrained"),
            seed=read.whole(seed, "seed", 0, read.SEEDS),
            arguments=read.keywords(arguments, "arguments"),
            input_shapes=read.shapes(input_shapes),
            input_dtypes=_dtypes(input_dtypes),
            inputs=arrays_of(inputs, module),
        )

    @property
    def kind(self) -> Kind | Literal["module"]:
        """Which kind of TARGET it is, or "module"."""
        return Target.parse(self.target).kind if self.module is None else "module"

    @property
    def is_file(self) -> bool:
        """Whether it is an ONNX file."""
        return self.kind == "onnx"

    def require_bare(self) -> None:
        """Raise `InputError` for an option that an ONNX file has no use for: its weights and the types of its inputs are inside."""
        given = {
            "--checkpoint": self.checkpoint,
            "--untrained": self.untrained,
            "--arg": self.arguments,
            "--input-dtype": self.input_dtypes,
        }
        option = next((name for name, value in given.items() if value), None)
        if option is not None:
            raise InputError(
                f"{self.target} has its inputs and weights inside; {option} does not go with it", f"leave out {option}"
            )

    def keywords(self) -> dict[str, Any]:
        """All but the network itself, by the names under which `export`, `profile` and `validate` take them."""
        return {each.name: getattr(self, each.name) for each in fields(Request) if each.name not in ("target", "module")}


def _module(value: object) -> nn.Module | None:
    """The `nn.Module` that it is, which nobody has who has not loaded PyTorch."""
    loaded = sys.modules.get("torch.nn")
    return value if loaded is not None and isinstance(value, loaded.Module) else None


def _called(target: Asked, module: nn.Module | None) -> str:
    """How messages call what was asked for: a TARGET, or the name of a module's class."""
    if isinstance(target, str):
        return target
    if module is not None:
        from deploykit.network import ready_made

        return ready_made.name_of(module)
    if isinstance(target, type):
        hint = f"give a network: {target.__name__}()"
        raise InputError(f"a network cannot be the class {target.__name__}", hint)
    if not isinstance(target, os.PathLike):
        shown = kind_of(target)
        raise InputError(f"a network cannot be {shown}", 'give its name, such as "lenet5", the path of a file, or an nn.Module')
    file = str(read.path(target, "the path of a network"))
    if Target.parse(file).kind not in ("checkpoint", "onnx"):
        ends = ", ".join((".onnx", *WEIGHTS))
        raise InputError(f"{file} is the path of no network", f"a file ends in {ends}; the name of an architecture is a text")
    return file


def _dtypes(given: read.Texts | None) -> tuple[str, ...] | None:
    """Torch's names of types; torch's and numpy's own types are understood."""
    if given is None or isinstance(given, str):
        return read.texts_or_none(given, "input_dtypes", '["int64"]')
    several = [given] if isinstance(given, type) or not hasattr(given, "__iter__") else given
    names = [getattr(each, "__name__", str(each).removeprefix("torch.")) if not isinstance(each, str) else each for each in several]
    return read.texts(names, "input_dtypes", '["int64"]')


def arrays_of(given: Inputs | None, module: nn.Module | None = None) -> Values | Path | None:
    """Arrays by input. One array is that of the only input; several are those of a module's `forward`, in order."""
    if given is None:
        return None
    if isinstance(given, (str, os.PathLike)):
        return read.path(given, "inputs")
    from deploykit.runtime import values

    if isinstance(given, Mapping):
        return values.of_inputs(given)
    if isinstance(given, (list, tuple)):
        return values.of_inputs(_by_name(given, module))
    return values.of_inputs({values.LONE: given})


def _by_name(given: Sequence[Array], module: nn.Module | None) -> Mapping[str, Array]:
    from deploykit.runtime import values

    if len(given) == 1:
        return {values.LONE: given[0]}
    if module is None:
        raise InputError(f"inputs cannot be a list of {len(given)} arrays", "give a dict of arrays by the inputs' names")
    from deploykit.network import calling, ready_made

    inner = ready_made.unwrapped(module, type(module).__name__)
    names = [*calling.parameters(inner)[: len(given)]]
    names += [f"input_{place}" for place in range(len(names), len(given))]
    return dict(zip(names, given, strict=True))


def make_importable(request: Request) -> None:
    """Put the current folder last on `sys.path`, for what the network of a callable imports while it runs.

    For processes that are deploykit's own, a command and a worker: to build a network, `resolve` looks there by itself, and leaves
    `sys.path` as it was. Last, so that no file there stands in for a library.
    """
    if request.kind == "callable":
        sys.path.append(str(Path.cwd()))
