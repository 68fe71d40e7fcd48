"""Validate a file that lies on disk, whoever made it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deploykit import architectures, files, onnx_file
from deploykit import arguments as read
from deploykit.arguments import Shapes, StrPath, Texts
from deploykit.errors import ContractError, InputError, word
from deploykit.network import calling, input_specs
from deploykit.network import checkpoint as checkpoints
from deploykit.network import target as targets
from deploykit.network.declared import Declared, GivenImage, GivenOutput
from deploykit.network.input_specs import InputSpec
from deploykit.network.request import Asked, Inputs, Request, Target
from deploykit.network.target import Network
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.onnx_file import sessions
from deploykit.runtime import values
from deploykit.runtime.contract import ArrayInput
from deploykit.verdict import preprocessing, tuned_files
from deploykit.verdict.batches import BATCHES
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import specs_of
from deploykit.verdict.judgement import judge
from deploykit.verdict.originals import OnnxOriginal, TorchOriginal
from deploykit.verdict.result import Verdict

MOST_BATCH = 4096


def validate(
    file: StrPath,
    against: Asked | None = None,
    *,
    checkpoint: StrPath | None = None,
    untrained: bool = False,
    seed: int | None = None,
    arguments: Mapping[str, Any] | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Texts | None = None,
    inputs: Inputs | None = None,
    data: StrPath | None = None,
    batches: int | Iterable[int] = BATCHES,
    rtol: float | None = None,
    atol: float | None = None,
    device: str = "cpu",
    witness: StrPath | None = None,
    image: GivenImage | None = None,
    output: GivenOutput | None = None,
) -> Verdict:
    """Is the ONNX file the same network as `against`: a PyTorch TARGET, an `nn.Module`, or another ONNX file?

    `arguments`, `input_shapes` and `input_dtypes`: of the network, as they were given to `export`; inputs that nobody names are
    those of the file. `inputs`: values as they occur, by input, or the `.npz` file that holds them. `data`: a dataset or a folder
    for the decisions. `batches`: the sizes to try. `device`: where the file is run ("cpu", "cuda", "auto"). `witness`: a `.npz`
    file to write inputs into on which both part, and both answers, where they do. `image`, `output`: as they were given to
    `export`; the file's contract is compared with them, and with the module's own `image_input` and `output`. Without `against`,
    the file's own contract says which network and which checkpoint it came from; that checkpoint must be there with the same
    SHA-256.

    A file that `tune` quantized is another network by its numbers: it is asked on labelled samples whether it decides the same, and
    the verdict is "same decisions".

    Raises `ModelFileError` for a file that is no ONNX, `InputError` for nothing to compare with, `DeviceUnavailable`,
    `OutputError` for a witness that cannot be written.
    """
    file = read.path(file, "file")
    sizes = read.wholes(batches, "batches", 1, MOST_BATCH, "[1, 2, 5]")
    asked = Request.of(
        "" if against is None else against, checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments,
        input_shapes=input_shapes, input_dtypes=input_dtypes, inputs=inputs,
    )  # fmt: skip
    samples = None if data is None else str(read.path(data, "data"))
    rtol, atol, device = read.real(rtol, "rtol"), read.real(atol, "atol"), read.text(device, "device", "cpu")
    shows = read.path_or_none(witness, "witness")
    if shows is not None:
        files.writable_file(shows)
    model, folder = onnx_file.read_whole(file)
    said = Declared.of(image, output)
    network = _original(file, Deployed(model, folder), asked, against is not None)
    if image is not None or output is not None:
        if not isinstance(network, Network):
            raise InputError(f"{asked.target} has its contract inside; image and output do not go with it", "leave them out")
        network = network.described(said)
    graph_inputs.put_in_order(model.graph, [spec.name for spec in network.inputs])
    if isinstance(network, Network):
        network = _in_types_of(Deployed(model, folder), network)
    if tuned_files.is_quantized(model):
        original = TorchOriginal(network, "fp32") if isinstance(network, Network) else network
        return tuned_files.verdict_on(model, folder, original, str(file), samples, sessions.working_device(device))
    found = judge(model, network, file=str(file), folder=folder, data=samples, sizes=sizes, rtol=rtol, atol=atol, device=device)
    if shows is not None and found.witness is not None:
        values.write(shows, found.witness)
    return found


def _original(file: Path, deployed: Deployed, asked: Request, named: bool) -> Network | OnnxOriginal:
    """What the file is compared with: what was `named`, or else what the file says that it was made from."""
    if not named:
        return _origin(file, asked)
    if asked.is_file:
        asked.require_bare()
        candidate = preprocessing.network_in(deployed)
        given = values.of_inputs(asked.inputs)
        return OnnxOriginal(asked.target, _network_in(Path(asked.target)), candidate, asked.input_shapes, given)
    network = _resolved(asked, _inputs_in(deployed))
    with contextlib.suppress(ContractError):  # the verdict's own check of the contract says why
        provenance = _provenance(file)
        if provenance.get("network") == network.name:
            _require_same_inputs(file, provenance, network, asked)
    return network


def _resolved(asked: Request, fallback: tuple[InputSpec, ...]) -> Network:
    """The network, with inputs like those of the file where nobody names them; in float32 where it refuses the file's float16."""
    if any(spec.dtype == torch.float16 for spec in fallback):
        try:
            network = targets.resolve(asked, fallback=fallback)
            targets.require_runs(network)
            return network
        except InputError:
            wide = {torch.float16: torch.float32}
            fallback = tuple(input_specs.in_type(spec, wide.get(spec.dtype, spec.dtype)) for spec in fallback)
    return targets.resolve(asked, fallback=fallback)


def _in_types_of(deployed: Deployed, network: Network) -> Network:
    """The network with its floating inputs in the file's types where those are narrower, such as float16.

    Both then get the same values, which the narrower type can hold, and the network turns them into its own type.
    """
    own = [spec.dtype for spec in network.inputs]
    inner = preprocessing.network_in(deployed)
    types = [entry.dtype for entry in graph_inputs.described(inner.model.graph)]
    if len(types) != len(own):
        return network
    narrow = [_narrower(mine, theirs) for mine, theirs in zip(own, types, strict=True)]
    if narrow == own:
        return network
    calling.bind_types(network.module, own)
    specs = tuple(input_specs.in_type(spec, dtype) for spec, dtype in zip(network.inputs, narrow, strict=True))
    rules = network.rules
    if isinstance(rules, ArrayInput):
        rules = replace(rules, dtype=str(narrow[0]).removeprefix("torch."))
    return replace(network, inputs=specs, rules=rules)


def _narrower(own: torch.dtype, of_file: np.dtype[Any] | None) -> torch.dtype:
    """The floating type of a file's input where it holds fewer bits than the network's own type, else that."""
    if of_file is None or of_file.kind != "f" or not own.is_floating_point:
        return own
    found: torch.dtype = getattr(torch, of_file.name)
    return found if found.itemsize < own.itemsize else own


def _network_in(file: Path) -> Deployed:
    """The network in a file, without the preprocessing that it may have in front."""
    return preprocessing.network_in(Deployed(*onnx_file.read_whole(file)))


def _inputs_in(deployed: Deployed) -> tuple[InputSpec, ...]:
    """What the file says of its inputs, for networks that say nothing of theirs; `()` where it does not say it either."""
    inner = preprocessing.network_in(deployed)
    try:
        contract = onnx_file.get_contract(inner.model)
        return specs_of(inner, contract)
    except (InputError, ContractError):
        return ()


def _is_shipped(name: str) -> bool:
    """Whether deploykit or torchvision has a network of this name. Never a callable: a file may not choose what code runs."""
    return name in architectures.names() or Target.parse(name).kind == "torchvision"


def _origin(file: Path, asked: Request) -> Network:
    """The network that the file says it was made from."""
    provenance = _provenance(file)
    name = provenance.get("network")
    if not isinstance(name, str) or not name:
        raise InputError(f"{file} does not say which network it is", f"name it: deploykit validate {word(file)} --against TARGET")
    digest = provenance.get("checkpoint_sha256")
    beside = asked.checkpoint or file.with_name(checkpoints.NAME)
    if not _is_shipped(name) and digest is not None and beside.is_file() and files.sha256(beside) == digest:
        # That checkpoint says how its network is made, and whether it may be is asked there.
        found = targets.resolve(replace(asked, target=str(beside), checkpoint=None, arguments=None))
        return _require_same_inputs(file, provenance, found, asked)
    if not _is_shipped(name):
        raise InputError(
            f"{file} says that it was made from {name[:80]!r}, a network of your own; a file may not choose what code runs",
            f"name it: deploykit validate {word(file)} --against package.module:{name[:80]}",
        )
    _require_arguments(file, provenance, asked)
    if digest is None and asked.checkpoint is None:
        seed = provenance.get("seed")
        known = seed if isinstance(seed, int) and 0 <= seed < 1 << 32 else 0
        fresh = targets.resolve(replace(asked, target=name, untrained=True, seed=known))
        return _require_same_inputs(file, provenance, fresh, asked)
    given = asked.checkpoint
    candidates = [given] if given else [file.with_name(checkpoints.NAME), checkpoints.folder_of(name) / checkpoints.NAME]
    for candidate in candidates:
        if candidate.is_file() and (given or files.sha256(candidate) == digest):
            found = targets.resolve(replace(asked, target=name, checkpoint=candidate))
            return _require_same_inputs(file, provenance, found, asked)
    raise InputError(
        f"{file} was made from a checkpoint of {name} that is not here (sha256 {str(digest)[:12]}...)",
        f"give it with --checkpoint FILE, or compare with another network: --against {name}",
    )


def _provenance(file: Path) -> dict[str, Any]:
    contract = onnx_file.get_contract(onnx_file.read(file))
    return dict(contract.provenance) if contract else {}


def _require_arguments(file: Path, provenance: Mapping[str, Any], asked: Request) -> None:
    """A file does not choose what a constructor is called with: the user says it again."""
    names = provenance.get("arguments")
    if isinstance(names, list) and names and not asked.arguments:
        shown = " ".join(f"--arg {str(name)[:40]}=..." for name in names[:4])
        raise InputError(f"{file} was exported with arguments that it does not hold", f"give them again: {shown}")


def _require_same_inputs(file: Path, provenance: Mapping[str, Any], network: Network, asked: Request) -> Network:
    """Nor does it choose the size of the inputs, which its contract must state as the network has it."""
    recorded = provenance.get("inputs")
    if (
        isinstance(recorded, list)
        and not asked.input_shapes
        and asked.inputs is None
        and _unnamed(recorded) != _unnamed([spec.document() for spec in network.inputs])
    ):
        shapes = [entry.get("shape") if isinstance(entry, dict) else None for entry in recorded[:4]]
        shown = " ".join(f"--input-shape {'x'.join(map(str, shape[:8]))[:60]}" for shape in shapes if isinstance(shape, list))
        raise InputError(f"{file} was exported for other inputs than {network.name} has by default", f"give them again: {shown}")
    return network


def _unnamed(inputs: list[Any]) -> list[Any]:
    """What is recorded of inputs without what the file calls them."""
    return [{key: value for key, value in entry.items() if key != "name"} if isinstance(entry, dict) else entry for entry in inputs]
