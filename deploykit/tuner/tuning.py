"""`tune`: the fastest file that still makes the same decisions, on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import onnx

from deploykit import arguments as read
from deploykit import backends, exporter, files, onnx_file
from deploykit._version import __version__
from deploykit.arguments import Shapes, StrPath, Texts
from deploykit.errors import ContractError, DependencyMissing, DeploykitError, InputError, UnknownName, word
from deploykit.network import target as targets
from deploykit.network.request import Asked, Inputs, Request
from deploykit.onnx_file import inputs as graph_inputs
from deploykit.profiler.benchmark import conditions
from deploykit.profiler.benchmark.device import require_device
from deploykit.profiler.onnx import times
from deploykit.progress import Progress
from deploykit.runtime import openvino, values
from deploykit.runtime.contract import ArrayInput, Contract, Output, Tuned
from deploykit.runtime.cores import cores
from deploykit.runtime.instructions import instruction_sets, is_arm
from deploykit.tuner import candidates as kinds
from deploykit.tuner import layers as layer_tables
from deploykit.tuner import samples, script
from deploykit.tuner.bench import Bench
from deploykit.tuner.candidates import Task
from deploykit.tuner.candidates.int8 import fixed_batch
from deploykit.tuner.journal import Journal, remove
from deploykit.tuner.result import Candidate, Goal, LayerChoice, TuneResult
from deploykit.tuner.samples import Parts
from deploykit.tuner.search import Found, search
from deploykit.verdict.same_decisions import Budget

SECONDS = 150.0
LEAST_SECONDS = 5.0
BATCH_OF_THROUGHPUT = 16
LAYER_SECONDS = 0.5  # of running a file with the runtime's profiler on


@dataclass(frozen=True)
class Options:
    """The keywords of `tune` that are not about the network, checked."""

    data: str | None
    budget: Budget
    goal: Goal
    batch: int | None
    threads: int | None
    engines: tuple[str, ...]
    precisions: tuple[str, ...]
    device: str
    seconds: float
    seed: int
    out: Path | None
    progress: Progress


def tune(
    target: Asked,
    *,
    checkpoint: StrPath | None = None,
    untrained: bool = False,
    seed: int = 0,
    arguments: Mapping[str, Any] | None = None,
    input_shapes: Shapes | None = None,
    input_dtypes: Texts | None = None,
    inputs: Inputs | None = None,
    data: StrPath | None = None,
    max_drop: float = 0.5,
    min_agreement: float = 0.99,
    max_error: float = 0.05,
    goal: Goal = "latency",
    batch: int | None = None,
    threads: int | None = None,
    engines: Texts | None = None,
    precisions: Texts | None = None,
    device: str = "cpu",
    seconds: float = SECONDS,
    out: StrPath | None = None,
    progress: Progress | None = None,
) -> TuneResult:
    """Find the fastest file for this machine whose decisions are those of `target`, prove it, and write it to `out`.

    `target`: an ONNX file, or what `export` takes, which is exported first unless its export lies beside its checkpoint.
    `data`: a dataset, a folder, an `.npz` file of arrays by the inputs' names (and `labels`), or "noise"; without it the dataset
    that the file was trained on. It is divided into three parts: one to calibrate with, one to select by, and one for the proof,
    which is asked once. `max_drop`: of the accuracy, in percentage points; where the data have no labels, `min_agreement` (0..1)
    of the decisions must be the same, or, where the outputs are no decisions, within `max_error` (0..1) of their scale. Each must
    hold at 95 % confidence. `goal`: "latency" of `batch` samples (1), "throughput" (16 samples at once), or "size" without being
    slower.
    `threads`: within one run; `None` lets it choose. `engines`, `precisions`: to choose from; `None` is all that are there.
    `seconds`: about how long it may take. `out` defaults to ``<stem>.tuned.onnx`` beside the file. If nothing is faster, keeps the
    decisions and can be proven to, the file that is written is the one that was given.

    A run that was killed goes on where it was, when it is asked for again. Raises what `export` raises, `InputError` for data that
    are missing or do not fit, `UnknownName`, `DependencyMissing` for an engine that is not installed, `DeviceUnavailable`,
    `OutputError`.
    """
    request = Request.of(
        target, checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments, input_shapes=input_shapes,
        input_dtypes=input_dtypes, inputs=inputs,
    )  # fmt: skip
    budget = Budget(read.real(max_drop, "max_drop") / 100, _share(min_agreement, "min_agreement"), _share(max_error, "max_error"))
    options = Options(
        data=None if data is None else str(read.path(data, "data")),
        budget=budget,
        goal=read.choice(goal, "goal", get_args(Goal)),
        batch=read.whole(batch, "batch", 1, 1 << 16),
        threads=read.whole(threads, "threads", 1, 1024),
        engines=_engines(read.texts_or_none(engines, "engines", '["onnxruntime"]')),
        precisions=_precisions(read.texts_or_none(precisions, "precisions", '["fp32", "int8"]')),
        device=read.text(device, "device", "cpu"),
        seconds=read.real(seconds, "seconds", LEAST_SECONDS),
        seed=read.whole(seed, "seed", 0, read.SEEDS) or 0,
        out=read.path_or_none(out, "out"),
        progress=read.progress(progress),
    )
    require_device(options.device, True)
    if options.device != "cpu":  # OpenVINO is an engine for the CPU here
        options = replace(options, engines=("onnxruntime",), threads=options.threads or cores().usable)
    return _tuned(request, options)


def _tuned(request: Request, options: Options) -> TuneResult:
    file = _file_of(request, options.progress)
    out = options.out or file.with_name(f"{file.stem.removesuffix('.tuned')}.tuned.onnx")
    if out.resolve() == file.resolve() and not _is_tuned(file):
        raise InputError(f"{out} is the file that is tuned", "choose another --out")
    files.writable_file(out)
    model, folder = onnx_file.read_whole(file)
    if folder is not None:
        raise InputError(f"{file} keeps its weights in another file, which quantizing cannot follow", "tune a network below 2 GB")
    options.progress.start(f"tuning {request.target}")
    parts = samples.read(file, model, options.data, values.of_inputs(request.inputs), options.seed)
    work = out.with_name(f"{out.name}.work")
    run = _fingerprint(file, parts, options)
    journal = Journal(work, run)
    if journal.resumed:
        options.progress.say(f"going on after {journal.seconds:.0f} s of an earlier run")
    baseline = _baseline(model, options)
    bench = Bench(file, work, parts, baseline, options.budget, journal, options.device, options.progress)
    task = Task(
        file, model, parts, baseline, options.engines, _threads(options, baseline),
        partial(_layer_times, bench, journal, parts, baseline), partial(_layer_errors, bench, journal, model, parts),
        options.device, instruction_sets(), is_arm(),
    )  # fmt: skip
    chosen_kinds = [kinds.load(name) for name in kinds.names() if kinds.load(name).PRECISION in options.precisions]
    found = search(task, chosen_kinds, bench, options.seconds, options.goal, options.progress)
    rows = _layers(task, bench, found)
    result = _result(request, options, task, found, rows, out, bench.now())
    tuned = _tuned_for(task, found, files.sha256(file), options.device)
    onnx_file.write(_marked(bench.path(found.chosen.candidate.build), model, tuned), out)
    written = script.write(out, request.target, _options_again(request, options))
    remove(work)
    return replace(result, script=written)


def _file_of(request: Request, progress: Progress) -> Path:
    """The ONNX file that is asked for, exported where that was not done before."""
    if request.is_file:
        return _source_of(Path(request.target))
    network = targets.resolve(request)
    there = exporter.default_file(network)
    if network.checkpoint is not None and there.is_file() and _is_of(there, network.checkpoint):
        return there
    target = request.target if request.module is None else request.module
    made = exporter.export(target, **request.keywords(), progress=progress)
    if not made.verdict.same:
        raise InputError(f"the export of {request.target} is not the same network", f"see deploykit validate {word(made.file)}")
    return made.file


def _is_tuned(file: Path) -> bool:
    """Whether the file says that it was tuned: it may be replaced by what is tuned from it."""
    contract = onnx_file.get_contract(onnx_file.read(file))
    return contract is not None and contract.tuned is not None


def _source_of(file: Path) -> Path:
    """The file that is tuned: of one that was, what it was made from, which is known by its SHA-256 and lies beside it."""
    try:
        contract = onnx_file.get_contract(onnx_file.read(file))
    except ContractError:
        return file
    if contract is None or contract.tuned is None or contract.tuned.precision in ("fp32", "bf16"):
        return file
    for other in sorted(file.absolute().parent.glob("*.onnx")):
        if files.sha256(other) == contract.tuned.source:
            return other
    raise InputError(
        f"{file} was tuned from a file that is not beside it (sha256 {contract.tuned.source[:12]}...)",
        "put it there, or tune that one",
    )


def _is_of(file: Path, checkpoint: Path) -> bool:
    try:
        contract = onnx_file.get_contract(onnx_file.read(file))
    except InputError:
        return False
    return contract is not None and contract.provenance.get("checkpoint_sha256") == files.sha256(checkpoint)


def _baseline(model: onnx.ModelProto, options: Options) -> Candidate:
    """The file as it is, as `Predictor` runs it."""
    graph_inputs.of_graph(model.graph)
    fixed = fixed_batch(model)
    batch = options.batch or fixed or (BATCH_OF_THROUGHPUT if options.goal == "throughput" else 1)
    if fixed is not None and batch != fixed:
        raise InputError(f"the file takes batches of {fixed} alone, not {batch}", f"give --batch {fixed}")
    return Candidate("fp32 onnxruntime", "onnxruntime", "fp32", options.threads or cores().usable, batch)


def _threads(options: Options, baseline: Candidate) -> tuple[int, ...]:
    if options.threads is not None:
        return (options.threads,)
    return tuple(dict.fromkeys((baseline.threads, max(1, baseline.threads // 2))))


def _layer_times(bench: Bench, journal: Journal, parts: Parts, baseline: Candidate, build: str) -> dict[str, float]:
    """See `Task.layer_times`; nothing where the file cannot be profiled."""
    key = ["layer_times", build]
    kept = journal.get(key)
    if kept is None:
        try:
            arrays = parts.calibration.cycled(baseline.batch)
            measured = times.node_times(bench.path(build), arrays, baseline.threads, LAYER_SECONDS)
            kept = measured.charged
        except DeploykitError:
            kept = {}
        journal.put(key, kept, bench.now())
    return dict(kept)


def _layer_errors(bench: Bench, journal: Journal, model: onnx.ModelProto, parts: Parts, build: str) -> dict[str, float]:
    """See `Task.layer_errors`; nothing where values inside cannot be seen."""
    key = ["layer_errors", build]
    kept = journal.get(key)
    if kept is None:
        size = fixed_batch(model) or min(layer_tables.SAMPLES, len(parts.calibration))
        feeds = dict(zip(parts.calibration.inputs, parts.calibration.cycled(size), strict=True))
        try:
            kept = layer_tables.errors(model, layer_tables.read(bench.path(build)), feeds)
        except DeploykitError:
            kept = {}
        journal.put(key, kept, bench.now())
    return dict(kept)


def _layers(task: Task, bench: Bench, found: Found) -> tuple[LayerChoice, ...]:
    """The table of layers, where int8 was tried."""
    whole = next((entry.candidate.build for entry in found.candidates if entry.candidate.precision == "int8"), None)
    if whole is None:
        return ()
    chosen = layer_tables.read(bench.path(found.chosen.candidate.build))
    return layer_tables.choices(task.model, chosen, task.layer_times("fp32"), task.layer_times(whole), task.layer_errors(whole))


def _result(
    request: Request, options: Options, task: Task, found: Found, rows: tuple[LayerChoice, ...], out: Path, seconds: float
) -> TuneResult:
    faster = found.chosen is not found.baseline
    verdict: Any = "faster" if faster and not found.unproven else "not proven" if found.unproven else "float32"
    labelled = task.parts.labelled
    decides = all(entry.judged is None or entry.judged.drop is not None for entry in found.candidates) or not labelled
    return TuneResult(
        target=request.target,
        file=out,
        goal=options.goal,
        verdict=verdict,
        baseline=found.baseline,
        chosen=found.chosen,
        candidates=found.candidates,
        layers=rows,
        data=task.parts.words(),
        labelled=labelled,
        budget=options.budget.words(labelled and decides, _decides(task.model)),
        notes=tuple(_notes(task, found)),
        conditions={**conditions.of_machine(), "instructions": " ".join(task.instructions)},
        seconds=seconds,
    )


def _decides(model: onnx.ModelProto) -> bool:
    """Whether the first output is one number per class, as far as the file says."""
    shape = model.graph.output[0].type.tensor_type.shape
    return len(shape.dim) == 2


def _notes(task: Task, found: Found) -> list[str]:
    notes = list(task.notes)
    if task.parts.noise:
        notes.append("calibrated and proven on random numbers, not on samples: on real ones the decisions may differ")
    if found.cut:
        notes.append("the time was over before everything was tried; --seconds gives more")
    if found.unproven is not None:
        reason = found.unproven.reason
        notes.append(f"{found.unproven.candidate.name} was faster and could not be proven to keep the decisions: {reason}")
    return notes


def _marked(file: Path, given: onnx.ModelProto, tuned: Tuned) -> onnx.ModelProto:
    """The file that was chosen, with what it was tuned for in its contract, if it has one."""
    model = onnx_file.read_whole(file)[0]
    contract = onnx_file.get_contract(given) or _bare_contract(given)
    if contract is not None:
        onnx_file.set_contract(model, replace(contract, tuned=tuned))
    return model


def _bare_contract(model: onnx.ModelProto) -> Contract | None:
    """The least that a file without a contract can be given to say what it was tuned for: it takes one array."""
    inputs = graph_inputs.described(model.graph)
    if len(inputs) != 1 or inputs[0].axes is None or inputs[0].dtype is None or not inputs[0].axes:
        return None
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in inputs[0].axes[1:])
    return Contract(ArrayInput(shape, inputs[0].dtype.name), Output())


def _tuned_for(task: Task, found: Found, source: str, device: str) -> Tuned:
    """What the file is to say of itself, rounded so that it is short."""
    candidate, timing, judged = found.chosen.candidate, found.chosen.timing, found.chosen.judged
    figures: dict[str, Any] = {"name": candidate.name}
    if timing is not None:
        figures |= {key: float(f"{getattr(timing, key):.4g}") for key in ("median_ms", "ratio", "low", "high")}
    if judged is not None:
        values = {key: getattr(judged, key) for key in ("samples", "agreement", "agreement_low", "drop", "drop_high")}
        figures |= {key: float(f"{value:.4g}") for key, value in values.items() if value is not None}
    return Tuned(
        cast(Any, candidate.engine), candidate.threads, candidate.precision, candidate.batch, "cpu" if device == "cpu" else "cuda",
        dict(candidate.options), task.instructions, source, figures,
    )  # fmt: skip


def _fingerprint(file: Path, parts: Parts, options: Options) -> dict[str, Any]:
    """What tells a tuning from others: the file, the samples, the options, the machine and the libraries."""
    shown = {k: repr(v) for k, v in vars(options).items() if k not in ("progress", "out")}
    machine = {k: v for k, v in conditions.of_machine("").items() if k not in ("clock", "load")}
    return {"file": files.sha256(file), "samples": parts.digest(), "options": shown, "machine": machine, "version": __version__}


def _options_again(request: Request, options: Options) -> dict[str, Any]:
    """The options of the command line that say the same."""
    found: dict[str, Any] = {"data": options.data, "checkpoint": request.checkpoint}
    found |= {"untrained": request.untrained or None, "seed": options.seed or None}
    found |= {"arg": [f"{name}={value}" for name, value in (request.arguments or {}).items()]}
    found |= {"input-shape": ["x".join(map(str, shape)) for shape in request.input_shapes or ()]}
    found |= {"input-dtype": list(request.input_dtypes or ())}
    found |= {"inputs": request.inputs if isinstance(request.inputs, Path) else None}
    budget = options.budget
    found |= {"max-drop": f"{100 * budget.drop:g}", "min-agreement": budget.agreement, "max-error": budget.error}
    found |= {"goal": options.goal, "batch": options.batch, "threads": options.threads, "engines": ",".join(options.engines)}
    found |= {"precisions": ",".join(options.precisions), "device": options.device, "seconds": f"{options.seconds:g}"}
    return {name: value for name, value in found.items() if value is not None and value != []}


def _engines(asked: Sequence[str] | None) -> tuple[str, ...]:
    """The engines to choose from, onnxruntime first; all that run ONNX files and are there, for `None`."""
    known = [name for name in backends.names() if name in ("onnxruntime", "openvino")]
    if asked is None:
        return tuple(name for name in known if name != "openvino" or openvino.installed())
    for name in asked:
        if name not in known:
            raise UnknownName.among("engine", name, known)
    if "openvino" in asked and not openvino.installed():
        raise DependencyMissing.of(openvino.PACKAGE, openvino.PACKAGE)
    if not asked:
        raise InputError("no engine was chosen", f"choose from {', '.join(known)}")
    return tuple(sorted(set(asked)))


def _precisions(asked: Sequence[str] | None) -> tuple[str, ...]:
    known = kinds.precisions()
    for name in asked or ():
        if name not in known:
            raise UnknownName.among("precision", name, known)
    if asked is not None and not asked:
        raise InputError("no precision was chosen", f"choose from {', '.join(known)}")
    return known if asked is None else tuple(dict.fromkeys(asked))


def _share(value: float, name: str) -> float:
    found = read.real(value, name)
    if found > 1:
        raise InputError(f"{name} cannot be {value!r:.40}", "give a number from 0 to 1")
    return found
