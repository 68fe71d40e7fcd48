"""A PyTorch network becomes an ONNX model: traced, translated, named by module path, its open axes by the user's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor

from deploykit import onnx_file
from deploykit._version import __version__
from deploykit.errors import ExportError
from deploykit.exporter import dynamic_axes, second_sizes
from deploykit.exporter import errors as export_errors
from deploykit.exporter import names as onnx_names
from deploykit.network import capturing, running
from deploykit.network import outputs as network_outputs
from deploykit.network.batch_axes import BATCH
from deploykit.network.capturing import Captured
from deploykit.network.target import Network
from deploykit.onnx_file import external_data

EXAMPLE_BATCH = 2  # a batch of 1 is taken for a constant by torch.export


@dataclass(frozen=True)
class Converted:
    """The model, and the trace that it was made from, with the guards on the sizes of open axes."""

    model: onnx.ModelProto
    captured: Captured


def convert(
    network: Network, opset: int, dynamic: Sequence[str] = ("batch",), weights: Callable[[], Path] | None = None
) -> Converted:
    """The network as an ONNX model, named by module path. Raises `ExportError` with the reason in one line.

    `weights` gives a file for the weights if they are too many for one message; the model then names it.
    """
    module = network.module.eval()
    axes = dynamic_axes.of_inputs(dynamic, network.inputs)
    examples = examples_of(network, axes)
    for spec in network.inputs:
        spec.require_numpy()
    outputs = network_outputs.names(running.run(module, examples, network.target), {spec.name for spec in network.inputs})
    try:
        with capturing.quiet(), torch.no_grad(), running.plain_attention():
            captured = capturing.capture(module, examples, axes)
            second_sizes.require(captured, module, examples, axes, network.target)
            captured = second_sizes.untied(captured, module, examples, axes, network.target)
            program = torch.onnx.export(
                captured.program,
                dynamo=True,
                input_names=[spec.name for spec in network.inputs],
                output_names=outputs,
                opset_version=opset,
                external_data=False,
                verbose=False,
            )
    except ExportError:
        raise
    except Exception as error:  # torch.export raises whatever the traced code raises
        raise export_errors.of_export(error, network) from error
    if program is None or program.exported_program is None:
        raise ExportError(f"{network.target}: torch.onnx gave no program")
    onnx_names.rename(program.model, program.exported_program, module)
    dynamic_axes.rename(program.model, captured.names)
    program.model.producer_name, program.model.producer_version = "deploykit", __version__
    program.model.graph.name = network.name
    if external_data.weight_bytes(program.model) > external_data.LIMIT:
        if weights is None:
            raise ExportError(f"{network.target} has more weights than fit into one ONNX file")
        external_data.move_out(program.model, weights())
    model = ir.serde.serialize_model(program.model)
    if onnx_file.opset(model) != opset:
        raise ExportError(
            f"{network.target} could not be exported with opset {opset}: the exporter gave {onnx_file.opset(model)}",
            "choose another --opset",
        )
    dynamic_axes.require_dynamic(model, network.inputs, axes, network.target)
    return Converted(model, captured)


def examples_of(network: Network, axes: Sequence[Mapping[int, str]]) -> list[Tensor]:
    """What the network is traced on: its own examples, else made-up values; two rows where the batch is open."""
    batch = EXAMPLE_BATCH if any(BATCH in each.values() for each in axes) else None
    generator = torch.Generator().manual_seed(0)
    rows = batch or max((spec.example_batch for spec in network.inputs if spec.batch_axis is not None), default=1)
    found = []
    for spec in network.inputs:
        given = spec.given(rows)
        found.append(spec.random(rows, generator) if given is None else given)
    return found
