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
from deploykit.verdict import preprocessing
from deploykit.verdict._types import Verdict
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import BATCHES
from deploykit.verdict.judgement import judge
from deploykit.verdict.originals import OnnxOriginal


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
    device: str = "cpu",
) -> Verdict:
    """Is the ONNX file the same network as `against`, a PyTorch TARGET or another ONNX file?

    `device`: where the file is run ("cpu", "cuda", "auto"). Without `against`, the file's own contract says which network and
    which checkpoint it came from; that checkpoint must be there with the same SHA-256.

    Raises `ModelFileError` for a file that is no ONNX, `InputError` for nothing to compare with, `DeviceUnavailable`.
    """
    file = Path(file)
    model, folder = onnx_file.read_whole(file)
    if not batches or min(batches) < 1:
        raise InputError(f"cannot validate at batch sizes {list(batches)}", "choose 1 or more, such as --batches 1,2,5")
    network: Network | OnnxOriginal
    if against is not None and targets.is_onnx(against):
        _refuse_weights(against, checkpoint, untrained)
        network = OnnxOriginal(against, _network_in(Path(against)), preprocessing.network_in(Deployed(model, folder)))
    elif against is not None:
        network = targets.resolve(against, weights=checkpoint, untrained=untrained, seed=seed or 0)
    else:
        network = _origin(file, checkpoint)
    return judge(model, network, file=str(file), folder=folder, data=data, sizes=batches, rtol=rtol, atol=atol, device=device)


def _network_in(file: Path) -> Deployed:
    """The network in a file, without the preprocessing that it may have in front."""
    return preprocessing.network_in(Deployed(*onnx_file.read_whole(file)))


def _refuse_weights(against: str, checkpoint: Path | None, untrained: bool) -> None:
    if checkpoint is not None or untrained:
        given = "--untrained" if checkpoint is None else "--checkpoint"
        raise InputError(f"{against} has its weights inside; {given} does not go with it", f"leave out {given}")


def _is_shipped(name: str) -> bool:
    """Never a `module:callable`: a file may not choose what code runs."""
    return name in architectures.names() or name.startswith("torchvision:")


def _origin(file: Path, checkpoint: Path | None) -> Network:
    """The network that the file says it was made from."""
    contract = onnx_file.get_contract(onnx_file.read(file))
    provenance: dict[str, Any] = dict(contract.provenance) if contract else {}
    name = provenance.get("network")
    if not isinstance(name, str) or not _is_shipped(name):
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
