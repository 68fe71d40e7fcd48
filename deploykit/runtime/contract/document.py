"""The contract as one JSON document: read, checked and written.

Version 1 knows one input and classification; it is read for ever. Version 2 adds keys and takes none away, and is written only
where something in it cannot be said in version 1: so an application that was built with an older deploykit goes on reading the
files of networks that it understands, and refuses the others instead of guessing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import Any, cast

from deploykit.errors import ContractError
from deploykit.runtime.contract.inputs import ArrayInput, ImageInput
from deploykit.runtime.contract.outputs import TASKS, Output
from deploykit.runtime.contract.requirements import is_int, is_text, require, short
from deploykit.runtime.contract.tuned import Tuned
from deploykit.runtime.contract.tuned import from_document as tuned_from_document

KEY = "deploykit"
VERSION = 2  # the newest that is read
MAX_BYTES = 4 << 20
MAX_EXAMPLE = 1 << 24  # elements of a sample that the file asks to be tried with
MAX_INPUTS = 64

_KINDS: dict[str, type] = {"image": ImageInput, "array": ArrayInput}
# What version 1 does not know, with the values that say nothing.
_NEW_OF_IMAGES = {"order": "rgb", "padding": (0,), "placement": "center"}
_NEW_AT_THE_TOP = ("inputs", "meanings")


@dataclass(frozen=True)
class Contract:
    """All that travels in the file. `provenance` and `verdict` are JSON objects for people and programs to read.

    `input`: of a network with several inputs, the first one. `inputs`: where there are several, each of them by its name in the
    graph, the first one included; a file of version 1 leaves them out, and samples for it are made by the application.
    `preprocessing_in_graph`: the file itself takes raw uint8 images, (batch, height, width, channels), of any size.
    `meanings`: what outputs mean, by their names, in words for people. `tuned`: what the file was tuned for; a reader that does not
    know this section answers the same, in another time, so it needs no version of its own.
    """

    input: ImageInput | ArrayInput
    output: Output
    preprocessing_in_graph: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    verdict: Mapping[str, Any] | None = None
    _: KW_ONLY
    inputs: Mapping[str, ImageInput | ArrayInput] = field(default_factory=dict)
    meanings: Mapping[str, str] = field(default_factory=dict)
    tuned: Tuned | None = None

    def __post_init__(self) -> None:
        require(len(self.inputs) <= MAX_INPUTS, f"inputs (at most {MAX_INPUTS})", len(self.inputs))
        require(all(is_text(name) and bool(name) for name in self.inputs), "inputs", "without a name")
        require(not self.inputs or next(iter(self.inputs.values())) == self.input, "input", "another than the first of its inputs")
        require(not (self.preprocessing_in_graph and len(self.inputs) > 1), "preprocessing_in_graph", "that of several inputs")
        require(all(map(is_text, (*self.meanings, *self.meanings.values()))), "meanings", "other than short texts")

    @property
    def version(self) -> int:
        """The lowest version of the format in which all of it can be said."""
        new = self.inputs or self.meanings or type(self.output) is not Output or self.output.name is not None
        return 2 if new or (isinstance(self.input, ImageInput) and _is_new(self.input)) else 1

    def rules(self) -> dict[str | None, ImageInput | ArrayInput]:
        """The rules of every input by its name; `None` is the name of a single one, which the graph alone knows."""
        found: dict[str | None, ImageInput | ArrayInput] = {name: self.inputs[name] for name in self.inputs}
        return found or {None: self.input}

    def example_shapes(self) -> dict[str, tuple[int, ...]]:
        """`example_sizes` without the batch."""
        return {name: tuple(size for size in sizes if size is not None) for name, sizes in self.example_sizes().items()}

    def example_sizes(self) -> dict[str, tuple[int | None, ...]]:
        """Whole shapes that the network was exported with, by input, `None` for the batch.

        Left out: what is no such record, and what is too large.
        """
        recorded = self.provenance.get("inputs")
        found: dict[str, tuple[int | None, ...]] = {}
        for entry in recorded if isinstance(recorded, list) else ():
            name, shape = (entry.get("name"), entry.get("shape")) if isinstance(entry, dict) else (None, None)
            if not isinstance(name, str) or not isinstance(shape, list) or len(shape) > 8:
                continue
            if all(is_int(size) and size >= 1 for size in shape) and math.prod(shape) <= MAX_EXAMPLE:
                batch = entry.get("batch_axis", 0)
                at = batch if is_int(batch) and 0 <= batch <= len(shape) else 0
                found[name] = (*shape[:at], *(() if batch is None else (None,)), *shape[at:])
        return found

    def document(self) -> dict[str, Any]:
        """The JSON document, of the lowest version that can say it."""
        version = self.version
        found = {
            "version": version,
            "input": input_to_dict(self.input),
            "output": output_to_dict(self.output) if version > 1 else _of_version_1(self.output),
            "preprocessing_in_graph": self.preprocessing_in_graph,
            "provenance": dict(self.provenance),
            "verdict": None if self.verdict is None else dict(self.verdict),
        }
        if version > 1:
            found["inputs"] = [{"name": name, **input_to_dict(rules)} for name, rules in self.inputs.items()]
            found["meanings"] = dict(self.meanings)
        if self.tuned is not None:
            found["tuned"] = self.tuned.document()
        return found

    def dumps(self) -> str:
        """One canonical JSON text: sorted keys, no spaces, so that equal contracts are equal bytes."""
        return json.dumps(self.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def loads(text: str) -> Contract:
    """Read and check a contract. Raises `ContractError` for anything that `Contract.dumps` would not have written."""
    document = _object(_parse(text), "the contract")
    version = document.get("version")
    if not is_int(version):
        raise ContractError("the contract in the file has no version", "export the file again")
    if not 1 <= cast(int, version) <= VERSION:
        raise ContractError(
            f"the contract in the file has version {short(version)}, this deploykit reads 1 to {VERSION}", "update deploykit"
        )
    old = version == 1
    embedded = document.get("preprocessing_in_graph", False)
    require(isinstance(embedded, bool), "preprocessing_in_graph", embedded)
    verdict = document.get("verdict")
    output = _object(document.get("output"), "the contract's output")
    tuned = document.get("tuned")
    return Contract(
        input=_input(document.get("input"), old),
        output=_built(Output, output, {"name"}) if old else output_from_dict(output),
        preprocessing_in_graph=embedded,
        provenance=_object(document.get("provenance", {}), "the contract's provenance"),
        verdict=None if verdict is None else _object(verdict, "the contract's verdict"),
        inputs={} if old else _inputs(document.get("inputs", [])),
        meanings={} if old else _object(document.get("meanings", {}), "the contract's meanings"),
        tuned=None if tuned is None else tuned_from_document(_object(tuned, "the contract's section on tuning")),
    )


def input_from_dict(document: Mapping[str, Any]) -> ImageInput | ArrayInput:
    """The `input` part alone, as a checkpoint's header stores it. Raises `ContractError`."""
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ContractError(f"an input of the unknown kind {short(kind)}")
    return cast("ImageInput | ArrayInput", _built(_KINDS[kind], document))


def input_to_dict(rules: ImageInput | ArrayInput) -> dict[str, Any]:
    """The `input` part alone; keys that version 1 does not know are left out where they say nothing."""
    found = asdict(rules)
    return {key: value for key, value in found.items() if key not in _NEW_OF_IMAGES or value != _NEW_OF_IMAGES[key]}


def output_from_dict(document: Mapping[str, Any]) -> Output:
    """The `output` part alone, as version 2 has it, with its `task`. Raises `ContractError`."""
    task = document.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise ContractError(f"an output of the unknown task {short(task)}", "update deploykit")
    found = cast(Output, _built(TASKS[task], {key: value for key, value in document.items() if key != "task"}))
    require(found.task == task, f"task (of an output that is {found.task})", task)
    return found


def output_to_dict(output: Output) -> dict[str, Any]:
    """The `output` part alone, with its `task`."""
    return {"task": output.task, **asdict(output)}


def _of_version_1(output: Output) -> dict[str, Any]:
    return {"activation": output.activation, "labels": output.labels}


def _is_new(rules: ImageInput) -> bool:
    """Whether the rules say something that version 1 cannot say."""
    return rules.fit == "letterbox" or any(getattr(rules, key) != value for key, value in _NEW_OF_IMAGES.items())


def _input(value: object, old: bool) -> ImageInput | ArrayInput:
    source = _object(value, "the contract's input")
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ContractError(f"the contract's input is of the unknown kind {short(kind)}", "export the file again")
    found = cast("ImageInput | ArrayInput", _built(_KINDS[kind], source, set(_NEW_OF_IMAGES) if old else set()))
    if old and isinstance(found, ImageInput):
        require(found.fit != "letterbox", "fit (of version 1)", found.fit)
    return found


def _inputs(value: object) -> dict[str, ImageInput | ArrayInput]:
    require(isinstance(value, list) and len(value) <= MAX_INPUTS, f"inputs (a list, at most {MAX_INPUTS})", value)
    found: dict[str, ImageInput | ArrayInput] = {}
    for entry in cast("list[Any]", value):
        source = _object(entry, "one of the contract's inputs")
        name = source.get("name")
        require(is_text(name) and name not in found, "name of an input (another for each)", name)
        found[cast(str, name)] = _input({key: inner for key, inner in source.items() if key != "name"}, old=False)
    return found


def _built(cls: type, source: Mapping[str, Any], without: set[str] | frozenset[str] = frozenset()) -> Any:
    known = {f.name for f in fields(cls)} - without
    unknown = sorted(set(source) - known)
    if unknown:
        raise ContractError(f"the contract has the unknown key {short(unknown[0])}", "update deploykit")
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in source.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ContractError(f"the contract is incomplete ({error})", "export the file again") from error


def _parse(text: str) -> Any:
    if len(text) > MAX_BYTES:
        raise ContractError(f"the contract in the file is larger than {MAX_BYTES} bytes")
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"the contract in the file is not valid JSON ({type(error).__name__})") from error


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ContractError(f"{what} is not a JSON object", "export the file again")
    return value
