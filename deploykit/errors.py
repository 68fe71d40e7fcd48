"""Every exception deploykit raises on purpose, and the exit status each one becomes on the command line.

::

    DeploykitError                  2
    ├── InputError                  2   something that was given cannot be used
    │   ├── UnknownName             2   no such architecture, dataset, backend, format (the nearest are named)
    │   ├── CheckpointError         2   a checkpoint is missing, unreadable or of another network
    │   ├── ModelFileError          2   an ONNX file is missing, unreadable or cannot be run
    │   ├── ContractError           2   the contract inside an ONNX file is missing, forged, newer or at odds with the graph
    │   ├── ImageError              2   an image cannot be read
    │   └── DatasetError            2   a dataset is missing, empty or does not fit the network
    ├── ExportError                 2   the network cannot be expressed in ONNX as asked
    ├── OutputError                 2   a result cannot be written; nothing half-written was left
    ├── DependencyMissing           2   an optional package is not installed (the extra is named)
    ├── Unavailable                 2   too much is asked at the moment, or it is being closed; the same may work later
    ├── TrainingDiverged            1   the loss became NaN or infinite
    ├── VerdictNo                   1   the deployed file is not the same network
    └── DeviceUnavailable           3   the device that was asked for is not there

A message is one line: what was asked, what is wrong, what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MAX_LENGTH = 2000  # characters of the problem, and of the hint


class DeploykitError(Exception):
    """Base of all: `problem` says what was asked and what is wrong, `hint` what to do next."""

    exit_status = 2

    def __init__(self, problem: str, hint: str = "") -> None:
        self.problem = _plain(problem)
        self.hint = _plain(hint)
        super().__init__(f"{self.problem}; {self.hint}" if self.hint else self.problem)

    def __reduce__(self) -> tuple[type[DeploykitError], tuple[str, ...]]:
        return type(self), (self.problem, self.hint)


def _plain(text: str) -> str:
    """One line of bearable length that can be printed anywhere: what a hostile name does to a terminal is escaped."""
    line = " ".join(text.split())
    line = line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 3] + "..."
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def first_line(error: BaseException, length: int = 300) -> str:
    """What somebody else's exception says, for a message of ours: its first line, or its type where it says nothing.

    Of an error of the operating system the words alone, in lower case: "no space left on device", without its number and path.
    """
    words = error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
    lines = words.strip().splitlines()
    return lines[0][:length] if lines else type(error).__name__


def word(path: object) -> str:
    """A path or name as one word of a command that is shown to be typed: quoted where a shell would take it apart."""
    import shlex  # only what is printed pays for it

    return shlex.quote(str(path))


def counted(count: int, noun: str) -> str:
    """A number of things for a message: "1 layer", "7 layers", "1,024 batches", "25 epochs"."""
    many = f"{noun}es" if noun.endswith("tch") else f"{noun}s"
    return f"{count:,} {noun if count == 1 else many}"


def with_article(noun: str) -> str:
    """A noun in a message: "a dict", "an int64", "a uint8"."""
    return f"{'an' if noun[:1].lower() in tuple('aeio') else 'a'} {noun}"


def kind_of(value: object) -> str:
    """The type of what was given, in a message: "a list", "an int"."""
    return with_article(type(value).__name__)


class InputError(DeploykitError):
    """Something that was given cannot be used."""

    @classmethod
    def of_shapes(cls, name: str, shapes: Iterable[Sequence[int]], reason: str, hint: str, layer: str = "") -> InputError:
        """The error for inputs of these whole shapes, which the network or file called `name` cannot take.

        `reason`: what it says itself. `layer`: the path of the module that says it, where that is known.
        """
        sizes = ", ".join("x".join(map(str, shape)) or "a scalar" for shape in shapes)
        at = f" at layer {layer!r}" if layer else ""
        return cls(f"{name} cannot take an input of {sizes}{at}: {reason}", hint)


class UnknownName(InputError):
    """No such architecture, dataset, backend or format."""

    @classmethod
    def among(cls, kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownName:
        """The error for `name`, with the nearest of `known` (or all of a short list) as the hint."""
        import difflib  # only a mistake pays for it

        known = sorted(known)
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        if near:
            meant = "did you mean " + " or ".join(repr(n) for n in near) + "?"
        else:
            meant = "known: " + ", ".join(known[:12]) + (", ..." if len(known) > 12 else "") + (";" if hint else "")
        return cls(f"unknown {kind} {name[:80]!r}", f"{meant} {hint}".strip())


class CheckpointError(InputError):
    """A checkpoint is missing, unreadable or of another network."""


class ModelFileError(InputError):
    """An ONNX file is missing, unreadable or cannot be run."""


class ContractError(InputError):
    """The contract inside an ONNX file is missing, forged, newer or at odds with the graph."""


class ImageError(InputError):
    """An image cannot be read."""


class DatasetError(InputError):
    """A dataset is missing, empty or does not fit the network."""


class ExportError(DeploykitError):
    """The network cannot be expressed in ONNX as asked."""


class OutputError(DeploykitError):
    """A result cannot be written; nothing half-written was left behind."""


# The module that an import misses -> the extra that brings it. Applications install without most of them.
_EXTRA_OF = {
    "click": "cli", "google": "export", "grpc": "grpc", "matplotlib": "export", "multipart": "serve", "onnx": "export",
    "onnx_ir": "export", "onnxruntime": "cpu", "onnxscript": "export", "onnxsim": "export", "openvino": "openvino",
    "pyarrow": "ray", "python_multipart": "serve", "ray": "ray", "rich": "cli", "safetensors": "export", "scipy": "export",
    "sklearn": "export", "starlette": "serve", "sympy": "export", "torch": "export", "torchvision": "export", "uvicorn": "serve",
}  # fmt: skip


class DependencyMissing(DeploykitError, ImportError):
    """An optional package is not installed. An `ImportError` too, for who asks whether a name can be had."""

    @classmethod
    def of(cls, package: str, extra: str) -> DependencyMissing:
        """The error for a missing `package`, naming the extra that brings it."""
        return cls(f"this needs the package {package!r}, which is not installed", f"pip install 'deploykit[{extra}]'")

    @classmethod
    def behind(cls, error: ModuleNotFoundError) -> DependencyMissing | None:
        """The error for an import that failed, or `None` where it missed a module that no extra brings."""
        package = (error.name or "").partition(".")[0]
        return cls.of(package, _EXTRA_OF[package]) if package in _EXTRA_OF else None


class Unavailable(DeploykitError):
    """Nothing is wrong with what was asked, but it is not done now.

    `reason`: "full" (too many wait), "late" (the deadline is over) or "stopping".
    """

    def __init__(self, reason: str, problem: str, hint: str = "try again later") -> None:
        self.reason = reason
        super().__init__(problem, hint)

    def __reduce__(self) -> tuple[type[DeploykitError], tuple[str, ...]]:
        return type(self), (self.reason, self.problem, self.hint)


class TrainingDiverged(DeploykitError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""

    exit_status = 1


class VerdictNo(DeploykitError):
    """The deployed file is not the same network as the one it is compared with."""

    exit_status = 1


class DeviceUnavailable(DeploykitError):
    """The device that was asked for is not there, or its provider does not load.

    `device`: what was asked for, such as "cuda:1". `reason`: why CUDA cannot be used, as part of a sentence.
    """

    exit_status = 3

    def __init__(self, device: str, reason: str, hint: str = "`deploykit doctor` tells what to do") -> None:
        self.device = device
        self.reason = _plain(reason)
        super().__init__(f"device {device!r} was asked for, but CUDA cannot be used: {reason}", hint)

    def __reduce__(self) -> tuple[type[DeploykitError], tuple[str, ...]]:
        return type(self), (self.device, self.reason, self.hint)
