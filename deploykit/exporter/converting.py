"""A PyTorch network becomes an ONNX model: traced, translated, named by module path, its open axes by the user's names."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn

from deploykit import onnx_file
from deploykit._version import __version__
from deploykit.errors import ExportError
from deploykit.exporter import dynamic_axes
from deploykit.exporter import errors as export_errors
from deploykit.exporter import names as onnx_names
from deploykit.network import capturing, running
from deploykit.network import outputs as network_outputs
from deploykit.network.batch_axes import BATCH, with_rows
from deploykit.network.capturing import Captured
from deploykit.network.target import Network
from deploykit.onnx_file import external_data

EXAMPLE_BATCH = 2  # a batch of 1 is taken for a constant by torch.export
SIZES_LOOKED_AT = 64  # and four times the example's: for a second size that the guards allow


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
            require_second_size(captured, module, examples, axes, network.target)
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


def require_second_size(
    captured: Captured, module: nn.Module, examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], target: str
) -> None:
    """Raise `ExportError` for an open axis that has one size only, by the guards of the trace."""
    sizes = {name: tensor.shape[axis] for tensor, each in zip(examples, axes, strict=True) for axis, name in each.items()}
    for name, size in sizes.items():
        own = [guard for guard in captured.guards if guard.axes == (name,)]
        others = (other for other in range(1, 4 * size + SIZES_LOOKED_AT) if other != size)
        if own and not any(all(guard.holds({**sizes, name: other}) for guard in own) for other in others):
            guard = next((guard for guard in own if not guard.holds({**sizes, name: size + 1})), own[0])
            why = ", ".join(filter(None, (guard.text, capturing.line_of(guard, module, examples, axes))))
            another = taken_size(module, examples, axes, name, size)
            if another is None:
                raise ExportError(
                    f"{target} cannot be exported with a dynamic {name}: it takes {size} alone ({why})",
                    "leave it out of --dynamic, or write the forward pass without int() and comparisons of sizes",
                )
            raise ExportError(
                f"{target} cannot be exported with a dynamic {name}: the network takes {another} too, but torch traces its Python "
                f"for one {name}, and the file would take {size} alone ({why})",
                "leave it out of --dynamic, one file for each size; or write the forward pass without loops over a size, int() and "
                "comparisons of sizes, and with x.shape[0] in place of len(x)",
            )


def taken_size(
    module: nn.Module, examples: Sequence[Tensor], axes: Sequence[Mapping[int, str]], name: str, size: int
) -> int | None:
    """A second size of the axis `name`, beside `size`, that the network itself answers; `None` where it refused all it was asked.

    Neighbours, doubles and squares: a network that makes a grid of a sequence takes squares alone. Not 1, which is broadcast.
    """
    root = math.isqrt(size)
    for other in (size + 1, size - 1, 2 * size, (root + 1) ** 2, max(root - 1, 0) ** 2, 4 * size):
        tensors = list(examples)
        for place, each in enumerate(axes):
            for axis in (axis for axis, called in each.items() if called == name):
                tensors[place] = with_rows(tensors[place], axis, other)
        if other > 1 and other != size:
            with contextlib.suppress(Exception):  # whatever the network raises of a size that it refuses
                running.run(module, tensors, "the network")
                return other
    return None


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
