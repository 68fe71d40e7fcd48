"""`table_of`: the layer table of an `Opened`, with the counts of its ONNX graph and the times that the options ask for."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from deploykit import backends as engines
from deploykit import onnx_file
from deploykit.errors import InputError, ModelFileError
from deploykit.network.target import Network
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.profiler import joining, subjects
from deploykit.profiler.layer_table import LayerTable
from deploykit.profiler.onnx import times as onnx_times
from deploykit.profiler.onnx.nodes import count_nodes
from deploykit.profiler.opening import Opened
from deploykit.profiler.options import Options
from deploykit.profiler.pytorch import times as torch_times
from deploykit.profiler.pytorch.layers import count_layers
from deploykit.profiler.tree import tree_of


def table_of(opened: Opened, options: Options) -> LayerTable:
    """The layer table without empty rows; with times only where the options ask for them."""
    if opened.network is None:
        return _of_file(opened, options)
    whole = _of_network(opened.network, opened, options)
    table = joining.layers_only(whole) if options.convention == "paddle" else whole.without_empty()
    if options.tree:
        types = {path: type(module).__name__ for path, module in opened.network.module.named_modules()}
        table = replace(table, tree=tree_of(whole.layers, types))
    return replace(table, notes=(*table.notes, *opened.network.notes, *([opened.note] if opened.note else [])))


def _of_network(network: Network, opened: Opened, options: Options) -> LayerTable:
    if not options.latency:
        return _without_times(network, opened, options)
    tensors = [torch.from_numpy(array) for array in opened.arrays]
    table = count_layers(network.module, tensors, options.convention, options.depth)
    options.progress.start("timing the layers")
    if "torch" in options.backends:
        table = joining.with_torch_times(table, _torch_times(network, tensors, options))
    if opened.file is not None:
        model = onnx_file.read(opened.file)
        paths = joining.module_paths(model.graph)
        names = [entry.name for entry in graph_inputs.of_graph(model.graph)]
        feeds = dict(zip(names, opened.arrays, strict=True)) if len(names) == len(opened.arrays) else None
        counted = count_nodes(model, options.convention, options.batch or 1, file=opened.file, feeds=feeds)
        table = joining.with_onnx(table, counted, paths)
        times = onnx_times.node_times(opened.file, opened.arrays, options.threads, device=options.device)
        table = joining.with_onnx_times(table, times, paths)
    return table


def _without_times(network: Network, opened: Opened, options: Options) -> LayerTable:
    """On inputs and, where the network was built without them, weights that take no memory; for real only if that fails."""
    tensors = [torch.empty(a.shape, dtype=spec.dtype, device="meta") for a, spec in zip(opened.arrays, network.inputs, strict=True)]
    with contextlib.suppress(InputError):
        return count_layers(network.module, tensors, options.convention, options.depth)
    if any(parameter.is_meta for parameter in network.module.parameters()):
        network = subjects.network(opened.subject)
    tensors = subjects.tensors_of_network(network, options.batch)
    return count_layers(network.module, tensors, options.convention, options.depth)


def _of_file(opened: Opened, options: Options) -> LayerTable:
    if opened.file is None:
        raise ValueError("neither a network nor a file")
    with _no_collection():
        model = onnx_file.read(opened.file)
        names = [entry.name for entry in graph_inputs.of_graph(model.graph)]
        real = not opened.untimed and (options.latency or opened.subject.inputs is not None)
        feeds = dict(zip(names, opened.arrays, strict=True)) if real else None
        made_up = opened.subject.inputs is None
        table = count_nodes(model, options.convention, options.batch, opened.subject.input_shapes, opened.file, feeds, made_up)
    if options.tree:
        table = replace(table, notes=(*table.notes, "a file has nodes and no modules: there is no tree of them"))
    if options.depth != "leaves":
        table = replace(table, notes=(*table.notes, "the rows of a file are its nodes, whatever the depth"))
    if not options.latency or opened.untimed or "onnxruntime" not in options.backends:
        return table
    try:
        times = onnx_times.node_times(opened.file, opened.arrays, options.threads, device=options.device)
    except ModelFileError:  # the runtime cannot load or run it, which the timing of the whole file will tell
        return table
    return joining.with_onnx_times(table, times, None)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Every node becomes objects that stay: looking through all of them for garbage again and again costs more than linear time."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def _torch_times(network: Network, tensors: Sequence[torch.Tensor], options: Options) -> Mapping[str, float]:
    # An engine puts the network on the device with these threads, and undoes both.
    with engines.start("torch", network, device=options.device, threads=options.threads) as engine:
        return torch_times.call_times(network.module, [tensor.to(engine.device) for tensor in tensors])
