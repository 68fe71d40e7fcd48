"""Validate a file that lies on disk, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploykit import architectures, files, onnx_file
from deploykit import checkpoint as checkpoints
from deploykit import target as targets
from deploykit.errors import InputError
from deploykit.target import Network
from deploykit.verdict._types import Verdict
from deploykit.verdict.inputs import BATCHES
from deploykit.verdict.judgement import judge


def validate(
    file: Path | str,
    *,
    against: str | None = None,
    checkpoint: Path | None = None,
    untrained: bool = False,
    seed: int | None = None,
    data: str | None = None,
    batches: Sequence[int] = BATCHES,
    rtol: float | None = None,
    atol: float | None = None,
) -> Verdict:
    """Is the ONNX file the same network as `against`?

    Without `against`, the file's own contract says which network and which checkpoint it came from; that checkpoint must be
    there with the same SHA-256. Raises `ModelFileError` for a file that is no ONNX, `InputError` for nothing to compare with.
    """
    file = Path(file)
    model = onnx_file.read(file)
    if not batches or min(batches) < 1:
        raise InputError(f"cannot validate at batch sizes {list(batches)}", "choose 1 or more, such as --batches 1,2,5")
    if against is not None:
        network = targets.resolve(against, weights=checkpoint, untrained=untrained, seed=seed or 0)
    else:
        network = _origin(file, checkpoint)
    return judge(model, network, file=str(file), data=data, sizes=batches, rtol=rtol, atol=atol)


def _origin(file: Path, checkpoint: Path | None) -> Network:
    """The network that the file says it was made from."""
    contract = onnx_file.get_contract(onnx_file.read(file))
    provenance: dict[str, Any] = dict(contract.provenance) if contract else {}
    name = provenance.get("network")
    if not isinstance(name, str) or name not in architectures.names():  # never a `module:callable`: a file may not choose what runs
        raise InputError(f"{file} does not say which network it is", "name it: deploykit validate FILE --against TARGET")
    digest = provenance.get("checkpoint_sha256")
    if digest is None and checkpoint is None:
        seed = provenance.get("seed")
        return targets.resolve(name, untrained=True, seed=seed if isinstance(seed, int) and 0 <= seed < 1 << 32 else 0)
    candidates = [checkpoint] if checkpoint else [file.with_name(checkpoints.NAME), checkpoints.folder_of(name) / checkpoints.NAME]
    for candidate in candidates:
        if candidate is not None and candidate.is_file() and (checkpoint or files.sha256(candidate) == digest):
            return targets.resolve(name, weights=candidate)
    raise InputError(
        f"{file} was made from a checkpoint of {name} that is not here (sha256 {str(digest)[:12]}...)",
        f"give it with --checkpoint FILE, or compare with another network: --against {name}",
    )
