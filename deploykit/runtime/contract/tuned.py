"""What a file was tuned for: the engine and its settings, the machine, and what was measured there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

from deploykit.errors import ContractError
from deploykit.runtime.contract.requirements import is_int, is_text, require

Engine = Literal["onnxruntime", "openvino"]
ENGINES = ("onnxruntime", "openvino")
MOST = 64  # options, instruction sets and figures
# The options of engines, and their values: a file must not set any other switch of a library.
OPTIONS = {
    "level": ("disabled", "basic", "extended", "all"),
    "precision": ("f32", "bf16", "f16"),
    "fixed_batch": tuple(map(str, range(1, 1025))),
    "io_binding": ("on",),
    "cuda_graph": ("on",),
    "tf32": ("on",),
    "layout": ("nhwc",),
    "provider": ("tensorrt-tf32", "tensorrt-fp16"),
}


@dataclass(frozen=True)
class Tuned:
    """On which engine, with how many `threads` within a run and which `options`, the file was the fastest.

    `batch`: samples per run. `device`: "cpu" or "cuda". `instructions`: the instruction sets of that machine. `precision`: of most
    of the arithmetic. `source`: the SHA-256 of the file that it was made from. `figures`: what was measured, for people.
    """

    engine: Engine
    threads: int
    precision: str
    batch: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    options: Mapping[str, str] = field(default_factory=dict)
    instructions: tuple[str, ...] = ()
    source: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.engine in ENGINES, "engine", self.engine)
        require(self.device in ("cpu", "cuda"), "device of the tuning", self.device)
        for name in ("threads", "batch"):
            value = getattr(self, name)
            require(is_int(value) and 1 <= value <= 1 << 20, f"{name} of the tuning", value)
        require(isinstance(self.options, Mapping), "options of the tuning", self.options)
        for name, value in self.options.items():
            require(name in OPTIONS and value in OPTIONS[name], f"option {name!r:.40} of the tuning", value)
        listed = isinstance(self.instructions, tuple) and len(self.instructions) <= MOST
        require(listed and all(is_text(name, 40) for name in self.instructions), "instructions", self.instructions)
        require(is_text(self.precision, 16) and is_text(self.source, 64), "precision or source of the tuning", self.precision)
        require(
            isinstance(self.figures, Mapping) and len(self.figures) <= MOST, "figures of the tuning", "other than a short object"
        )

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def from_document(source: Mapping[str, Any]) -> Tuned:
    """The section as it was read. Raises `ContractError`."""
    known = {each.name for each in fields(Tuned)}
    # A newer deploykit may say more of a tuning; what an older one does not understand of it changes no answer.
    values = {name: value for name, value in source.items() if name in known}
    if isinstance(values.get("instructions"), list):
        values["instructions"] = tuple(cast("list[Any]", values["instructions"]))
    try:
        return Tuned(**values)
    except TypeError as error:
        raise ContractError(f"the contract's section on tuning is incomplete ({error})", "tune the file again") from error


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
