"""What is tuned: the ONNX file that a request means, exported where that was not done before."""

from __future__ import annotations

from pathlib import Path

from deploykit import exporter, files, onnx_file
from deploykit.errors import ContractError, InputError, word
from deploykit.network.request import Request
from deploykit.progress import Progress
from deploykit.runtime.contract import Tuned


def file_of(request: Request, progress: Progress) -> Path:
    """The ONNX file that is asked for, exported where that was not done before."""
    if request.is_file:
        request.require_bare()
        return _source_of(Path(request.target))
    from deploykit.network import target as targets  # an ONNX file is tuned without PyTorch

    network = targets.resolve(request)
    there = exporter.default_file(network)
    if network.checkpoint is not None and there.is_file() and _is_of(there, network.checkpoint):
        return there
    target = request.target if request.module is None else request.module
    made = exporter.export(target, **request.keywords(), progress=progress)
    if not made.verdict.same:
        raise InputError(f"the export of {request.target} is not the same network", f"see deploykit validate {word(made.file)}")
    return made.file


def default_out(file: Path) -> Path:
    """``<stem>.tuned.onnx`` beside it. A tuned file that is tuned itself stays: its float32 weights may be the only ones."""
    again = file.with_name(f"{file.stem.removesuffix('.tuned')}.tuned.onnx")
    return again if again != file else file.with_name(f"{file.stem}.tuned.onnx")


def _source_of(file: Path) -> Path:
    """The file that is tuned: of one that was, what it was made from, which is known by its SHA-256 and lies beside it."""
    try:
        contract = onnx_file.get_contract(onnx_file.read(file))
    except ContractError:
        return file
    if contract is None or contract.tuned is None or _is_float(contract.tuned):
        return file
    for other in sorted(file.absolute().parent.glob("*.onnx")):
        if other.is_file() and files.sha256(other) == contract.tuned.source:
            return other
    raise InputError(
        f"{file} was tuned from a file that is not beside it (sha256 {contract.tuned.source[:12]}...)",
        "put it there, or tune that one",
    )


def _is_float(tuned: Tuned) -> bool:
    """Whether the numbers in the file are float32, whatever an engine makes of them."""
    by_engine = tuned.precision == "fp16" and not {"precision", "provider"}.isdisjoint(tuned.options)
    return tuned.precision in ("fp32", "bf16", "tf32") or by_engine


def _is_of(file: Path, checkpoint: Path) -> bool:
    try:
        contract = onnx_file.get_contract(onnx_file.read(file))
    except InputError:
        return False
    return contract is not None and contract.provenance.get("checkpoint_sha256") == files.sha256(checkpoint)
