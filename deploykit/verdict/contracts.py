"""The contract in a file beside what the network says of itself: an application prepares its inputs and reads the outputs by it.

Wrong numbers there are as wrong as wrong weights. What the network says nothing of is no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Protocol

from deploykit import onnx_file
from deploykit.errors import ContractError
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.result import Check

Rules = ImageInput | ArrayInput

NAME = "contract"


class Stating(Protocol):
    """What a network says of itself."""

    @property
    def rules(self) -> Rules | None:
        """How a sample becomes the first input, `None` where nobody says."""

    @property
    def rules_of_inputs(self) -> Sequence[Rules]:
        """The same for every input; empty where nobody says."""

    @property
    def output(self) -> Output | None:
        """What it gives back, `None` where nobody says."""

    @property
    def declared(self) -> bool:
        """Whether somebody says how samples become inputs, or shapes are all that is known."""


def check(deployed: Deployed, original: Stating) -> Check:
    """The first field in which both differ, by its name."""
    try:
        contract = onnx_file.get_contract(deployed.model)
    except ContractError as error:
        return Check(NAME, False, error.problem)
    if contract is None:
        return Check(NAME, True, "the file has none; an application must know the preprocessing by itself")
    if original.rules is None:
        return Check(NAME, True, "the file has one, the other has none to compare it with")
    names = [value.name for value in deployed.inputs]
    stated = [contract.inputs.get(name) for name in names] if contract.inputs else [contract.input]
    for name, of_file, of_network in zip(names, stated, original.rules_of_inputs, strict=False):
        said = "" if of_file is None or len(stated) == 1 else f" of the input {name[:80]!r}"
        apart = None if of_file is None else _input_apart(of_file, of_network, original.declared)
        if apart is not None:
            return Check(NAME, False, f"the file says {apart[0]}{said}, the network was made for {apart[1]}")
    problem = _output_apart(contract.output, original.output)
    if problem is not None:
        return Check(NAME, False, problem)
    silent = not original.declared and any(isinstance(each, ImageInput) for each in stated)
    return Check(NAME, True, _agreed(contract) + (_UNSAID if silent else ""))


_UNSAID = "; the network says nothing of images, so theirs was not compared"


def _input_apart(stated: Rules, wanted: Rules, declared: bool) -> tuple[str, str] | None:
    """What the file says and what the network says of the first field in which they differ."""
    if not declared and isinstance(stated, ImageInput) and isinstance(wanted, ArrayInput):
        shape = (stated.channels, stated.height, stated.width)
        return None if _fits(shape, wanted.shape) else (f"images of {shape}", f"arrays of {wanted.shape}")
    if _agree(stated, wanted):
        return None
    ours, theirs = vars(wanted), vars(stated)
    apart = next(key for key in ours if ours[key] != theirs.get(key))
    return f"{apart} {theirs.get(apart)}", f"{ours[apart]}"


def _agree(stated: Rules, wanted: Rules) -> bool:
    """Whether samples are prepared alike; a size that one of them leaves open is no difference."""
    if not (isinstance(stated, ArrayInput) and isinstance(wanted, ArrayInput)):
        return stated == wanted
    return _fits(stated.shape, wanted.shape) and stated.dtype == wanted.dtype


def _fits(stated: Sequence[int | None], wanted: Sequence[int | None]) -> bool:
    sizes = zip(stated, wanted, strict=False)
    return len(stated) == len(wanted) and all(None in (a, b) or a == b for a, b in sizes)


def _output_apart(stated: Output, wanted: Output | None) -> str | None:
    """The first field of the output in which both differ, where the network says anything of it."""
    if wanted is None or (wanted.task == "raw" and wanted.name is None):
        return None
    if wanted.labels is not None and stated.labels != wanted.labels:
        return "the file's labels are not those of the network" + _first_label(stated.labels, wanted.labels)
    if type(stated) is not type(wanted):
        return f"the file says task {stated.task}, the network was made for {wanted.task}"
    for each in fields(wanted):
        of_file, of_network = getattr(stated, each.name), getattr(wanted, each.name)
        unsaid = each.name == "labels" or (each.name == "activation" and of_network == "none" and type(wanted) is Output)
        if of_file != of_network and not unsaid:
            return f"the file says {each.name} {of_file}, the network was made for {of_network}"
    return None


def _first_label(stated: Sequence[str] | None, wanted: Sequence[str]) -> str:
    """Where two lists of one length part."""
    if stated is None or len(stated) != len(wanted):
        return ""
    place = next(place for place, (ours, theirs) in enumerate(zip(wanted, stated, strict=True)) if ours != theirs)
    return f": label {place} is {stated[place][:60]!r}, not {wanted[place][:60]!r}"


def _agreed(contract: Contract) -> str:
    """What a contract says that turned out right; a network of the user's own may have neither preprocessing nor labels."""
    prepared = any(isinstance(rules, ImageInput) for rules in contract.rules().values())
    labelled = contract.output.labels is not None
    task = contract.output.task
    if task not in ("classification", "raw"):
        rest = f"{'preprocessing' if prepared else 'arrays as they are'}{' and labels' if labelled else ''}"
        return f"task {task}, {rest}: as the network says"
    if prepared and labelled:
        return "preprocessing and labels are those of the network"
    if prepared:
        return "preprocessing is that of the network; it has no labels"
    if labelled:
        return "labels are those of the network; it has no preprocessing: arrays go in as they are"
    return "it has neither preprocessing nor labels: arrays go in as they are, numbers come out"
