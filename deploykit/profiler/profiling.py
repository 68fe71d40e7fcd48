"""`profile`: reads a TARGET, counts its layers, times it, and joins both into a `Profile`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from deploykit import arguments as read
from deploykit import files
from deploykit.arguments import Shapes, StrPath, Texts
from deploykit.errors import InputError
from deploykit.network.request import Asked, Inputs
from deploykit.profiler import opening, pairing
from deploykit.profiler.benchmark import roofline
from deploykit.profiler.benchmark.device import require_device
from deploykit.profiler.benchmark.latency import LatencyReport, measure_latency
from deploykit.profiler.opening import Opened
from deploykit.profiler.options import BACKENDS, Options, checked
from deploykit.profiler.pytorch.layers import Depth
from deploykit.profiler.result import Profile, total_ms
from deploykit.profiler.subjects import Subject
from deploykit.profiler.tables import table_of
from deploykit.progress import Progress
from deploykit.runtime.cores import cores

SECONDS = 6.0
HERE = "the module was timed in this process, beside all else that it holds: it exists nowhere else"
MAX_SUM_ERROR = 0.15  # |sum of the layers' times / time of the whole run - 1| above which the report says so


def profile(
    target: Asked,
    *,
    checkpoint: StrPath | None = None,
    untrained: bool = False,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Texts | None = None,
    inputs: Inputs | None = None,
    batch: int | None = None,
    convention: str = "macs",
    depth: Depth = "leaves",
    backends: Texts = BACKENDS,
    latency: bool = True,
    against: Asked | None = None,
    device: str = "cpu",
    threads: int | None = None,
    seconds: float = SECONDS,
    tree: bool = False,
    progress: Progress | None = None,
) -> Profile:
    """Every layer of a network: shapes, parameters, cost under `convention`, and, with `latency`, its time on `backends`.

    `target`: a TARGET, the path of a checkpoint or ONNX file, or an `nn.Module`, of which a copy is counted, and timed in this
    process. A network is exported to a temporary file for ONNX Runtime unless its own export lies beside its checkpoint; an ONNX
    file is counted and timed as it is. `depth`: "leaves", or a number of levels of modules. `against`: another network or file to
    compare with. `seconds`: about how long each comparison may take. `tree`: the modules of a network, too, each with the sums of
    all in it. `batch` (`None`: 1, or what a file fixes), `input_shapes` (per input, without the batch), `input_dtypes` (per input,
    for networks) and `inputs` (an array, several by input, or the `.npz` file that holds them) are those of the whole report.

    Raises what resolving the target raises, `UnknownName` for a backend or convention, `DeviceUnavailable`, and `InputError`
    for a shape that the network cannot take.
    """
    options = checked(Options(
        batch, convention, depth, read.texts(backends, "backends", '["torch", "onnxruntime"]'), read.flag(latency, "latency"),
        read.text(device, "device", "cpu"), read.whole(threads, "threads", 1, 1024) or cores().usable, seconds,
        read.progress(progress), read.flag(tree, "tree"),
    ))  # fmt: skip
    wanted = Subject.of(
        target, checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments, input_shapes=input_shapes,
        input_dtypes=input_dtypes, inputs=inputs,
    )  # fmt: skip
    require_device(options.device, wanted.is_file)
    with ExitStack() as stack:
        folder = stack.enter_context(files.scratch_folder())
        if against is None:
            return _alone(opening.read(wanted, options, folder / "a"), options)
        other = pairing.other_of(wanted, Subject.of(against))
        first, second = pairing.pair(wanted, other, folder)
        mine, theirs = (opening.read(each.subject, options, folder / name) for each, name in ((first, "a"), (second, "b")))
        return _side_by_side(mine, theirs, options, first.note)


def _alone(opened: Opened, options: Options) -> Profile:
    found = Profile(opened.subject.target, table_of(opened, options), options.depth)
    if not options.latency:
        return found
    if opened.untimed:
        return _untimed(found, opened.untimed)
    chosen = [subject for name in options.backends if (subject := opened.on(name, alone=True)) is not None]
    if not chosen:
        raise InputError(f"{opened.subject.target} cannot run on {', '.join(options.backends)}", "choose other --backends")
    try:
        timed = _with_times(found, [_timed(chosen, opened, options)], options)
        return replace(timed, notes=(*timed.notes, *_not_adding_up(timed)))
    except InputError as error:  # a file that can be counted and not run: it has a custom operator, or takes no made-up values
        if opened.network is not None:
            raise
        return _untimed(found, str(error))


def _untimed(found: Profile, reason: str) -> Profile:
    """The counts, with the reason why there are no times; those of single nodes, if any, would stand beside nothing."""
    return replace(found, notes=(*found.notes, f"NOT TIMED: {reason}"))


def _not_adding_up(found: Profile) -> Iterator[str]:
    """A note per engine whose layers' times do not add up to the whole run's: watching a short layer may outlast it."""
    for backend, column, name in (("torch", "torch_ms", "PyTorch"), ("onnxruntime", "onnxruntime_ms", "ONNX Runtime")):
        whole = next((entry.median_ms for entry in found.latencies if entry.backend == backend), None)
        layers = total_ms(found.table, column)
        if whole and layers and abs(layers / whole - 1) > MAX_SUM_ERROR:
            yield (
                f"the layers' times in {name} add up to {layers:.3g} ms, a run that nobody watches takes {whole:.3g} ms: "
                "read the column as shares"
            )


def _side_by_side(mine: Opened, other: Opened, options: Options, note: str) -> Profile:
    _require_same_inputs(mine, other)
    theirs = Profile(other.subject.target, table_of(other, options), options.depth)
    notes = (note,) if note else ()
    found = Profile(mine.subject.target, table_of(mine, options), options.depth, against=theirs, notes=notes)
    if not options.latency:
        return found
    reason = mine.untimed or other.untimed
    if reason:
        return _untimed(found, reason)
    pairs = [(other.on(name, alone=False), mine.on(name, alone=False)) for name in options.backends]
    try:
        reports = [_timed([a, b], mine, options) for a, b in pairs if a is not None and b is not None]
        if not reports:
            # A network and a file have no backend in common: each runs on the first one that it can.
            reports = [_timed([_first(other, options), _first(mine, options)], mine, options)]
    except InputError as error:
        if mine.network is not None and other.network is not None:
            raise
        return _untimed(found, str(error))
    return replace(_with_times(found, reports, options), agreement=pairing.agreement(reports[0].outputs))


def _timed(chosen: Sequence[Subject], opened: Opened, options: Options) -> LatencyReport:
    return measure_latency(
        chosen,
        opened.arrays,
        device=options.device,
        threads=options.threads,
        seconds=options.seconds,
        progress=options.progress,
    )


def _first(opened: Opened, options: Options) -> Subject:
    for backend in options.backends:
        found = opened.on(backend, alone=False)
        if found is not None:
            return found
    raise InputError(f"{opened.subject.target} cannot run on {', '.join(options.backends)}", "choose other --backends")


def _with_times(found: Profile, reports: Sequence[LatencyReport], options: Options) -> Profile:
    from deploykit.network.running import torch_device

    latencies = tuple(entry for report in reports for entry in report.latencies)
    here = any(entry.peak_memory_bytes is None for entry in latencies)
    peak = roofline.peak(str(torch_device(options.device)), options.threads)
    return replace(
        found,
        against=None if found.against is None else replace(found.against, peak=peak),
        latencies=latencies,
        comparisons=tuple(entry for report in reports for entry in report.comparisons),
        conditions=reports[0].conditions,
        peak=peak,
        notes=(*found.notes, *([HERE] if here else [])),
    )


def _require_same_inputs(mine: Opened, other: Opened) -> None:
    a, b = ([tuple(array.shape) for array in opened.arrays] for opened in (mine, other))
    if a != b:
        shapes = [" and ".join("x".join(map(str, shape)) for shape in side) for side in (a, b)]
        raise InputError(
            f"{mine.subject.target} takes {shapes[0]} and {other.subject.target} takes {shapes[1]}, so they cannot be compared",
            "choose networks with the same input, or give both the same --input-shape",
        )
