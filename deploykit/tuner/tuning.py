"""`tune`: the fastest file that still makes the same decisions, on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import onnx

from deploykit import arguments as read
from deploykit import files, onnx_file
from deploykit._version import __version__
from deploykit.arguments import Shapes, StrPath, Texts
from deploykit.errors import InputError
from deploykit.network.request import Asked, Inputs, Request
from deploykit.onnx_file import external_data, walk
from deploykit.profiler.benchmark import conditions
from deploykit.progress import Progress
from deploykit.runtime import values
from deploykit.runtime.cores import cores
from deploykit.runtime.instructions import instruction_sets, is_arm
from deploykit.runtime.session import working_device
from deploykit.tuner import candidates as kinds
from deploykit.tuner import layer_measures, layers, marking, outcome, samples, script, settings, sources
from deploykit.tuner import options as checked
from deploykit.tuner.bench import Bench
from deploykit.tuner.candidates import Task
from deploykit.tuner.claim import claimed
from deploykit.tuner.journal import Journal, remove
from deploykit.tuner.options import Options
from deploykit.tuner.readable import IR_VERSION, readable
from deploykit.tuner.result import Candidate, Goal, LayerChoice, TuneResult
from deploykit.tuner.samples import Parts
from deploykit.tuner.search import Found, search
from deploykit.verdict.same_decisions import Budget, rule_of

SECONDS = 150.0
LEAST_SECONDS = 5.0


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
    hold at 95 % confidence. `goal`: "latency" of `batch` samples (1), "throughput" (of `batch` samples at once; of 16,
    and of what is best, where none is given), or "size" without being slower.
    `threads`: within one run; `None` lets it choose. `engines`, `precisions`: to choose from; `None` is all that are there.
    `seconds`: about how long it may take. `out` defaults to ``<stem>.tuned.onnx`` beside the file, which is never replaced. If
    nothing is faster, keeps the decisions and can be proven to, the file that is written is the one that was given.

    A run that was killed goes on where it was, when it is asked for again. Raises what `export` raises, `InputError` for data that
    are missing or do not fit, `UnknownName`, `DependencyMissing` for an engine that is not installed, `DeviceUnavailable`,
    `OutputError`.
    """
    request = Request.of(
        target, checkpoint=checkpoint, untrained=untrained, seed=seed, arguments=arguments, input_shapes=input_shapes,
        input_dtypes=input_dtypes, inputs=inputs,
    )  # fmt: skip
    shares = checked.share(min_agreement, "min_agreement"), checked.share(max_error, "max_error")
    options = Options(
        data=None if data is None else str(read.path(data, "data")),
        budget=Budget(read.real(max_drop, "max_drop") / 100, *shares),
        goal=read.choice(goal, "goal", get_args(Goal)),
        batch=read.whole(batch, "batch", 1, 1 << 16),
        threads=read.whole(threads, "threads", 1, 1024),
        engines=checked.engines(read.texts_or_none(engines, "engines", '["onnxruntime"]')),
        precisions=checked.precisions(read.texts_or_none(precisions, "precisions", '["fp32", "int8"]')),
        device=working_device(read.text(device, "device", "cpu")),
        seconds=read.real(seconds, "seconds", LEAST_SECONDS),
        seed=read.whole(seed, "seed", 0, read.SEEDS) or 0,
        out=read.path_or_none(out, "out"),
        progress=read.progress(progress),
    )
    if options.device != "cpu":  # OpenVINO is an engine for the CPU here
        options = replace(options, engines=("onnxruntime",), threads=options.threads or cores().usable)
    return _tuned(request, options, time.monotonic())


def _tuned(request: Request, options: Options, began: float) -> TuneResult:
    file = sources.file_of(request, options.progress)
    given = Path(request.target) if request.is_file else file
    out = options.out or sources.default_out(given)
    if out.resolve() in (file.resolve(), given.resolve()):
        raise InputError(f"{out} is the file that is tuned", "choose another --out")
    files.writable_file(out)
    with claimed(out):
        return _tuned_to(out, file, given, request, options, began)


def _tuned_to(out: Path, file: Path, given: Path, request: Request, options: Options, began: float) -> TuneResult:
    """`given`: what the caller has named; `file`: what that was made from, if it was tuned before."""
    model, folder = onnx_file.read_whole(file)
    if folder is not None:
        raise InputError(f"{file} keeps its weights in another file, which quantizing cannot follow", "tune a network below 2 GB")
    options.progress.start(f"tuning {request.target}")
    parts = samples.read(file, model, options.data, values.of_inputs(request.inputs), options.seed, request.input_shapes)
    baseline = settings.baseline(model, options)
    contract = onnx_file.get_contract(model)
    rule = rule_of(None if contract is None else contract.output)
    samples.require_classes(model, parts, rule.name)
    work = out.with_name(f"{out.name}.work")
    with _journal(work, _fingerprint(file, parts, options), options.progress) as journal:
        bench = Bench(file, work, parts, baseline, options.budget, journal, options.device, options.progress, rule, began)
        bench.fit(options.seconds)
        tell = bench.keep_labels_that_tell()
        task = _task(file, model, work, parts, baseline, options, bench)
        task.notes.extend(_remarks(file, given, tell, model))
        chosen_kinds = [kinds.load(name) for name in kinds.names() if kinds.load(name).PRECISION in options.precisions]
        found = search(task, chosen_kinds, bench, options.seconds, options.goal, options.progress)
        rows = _layers(task, bench, found)
        result = outcome.result(request, options, task, found, rows, out, bench.now(), rule)
        marked = marking.tuned_for(task, found, files.sha256(file), options.device)
        onnx_file.write(marking.marked(bench.path(found.chosen.candidate.build), model, marked), out)
        written = _script(request, options, file, out)
        remove(work)
        return replace(result, script=written)


def _remarks(file: Path, given: Path, labels_tell: bool, model: onnx.ModelProto) -> list[str]:
    """What has to be known of the file and of the samples to read the result rightly."""
    found = []
    if given.resolve() != file.resolve():
        found.append(f"{given.name} was tuned from {file.name}, which is tuned again: the file as it is, is {file.name}")
    if not labels_tell:
        found.append(
            "the file is right no more often than whoever always says the most frequent label, so the labels are not used, and its "
            "decisions are to stay; are they its classes?"
        )
    stored = walk.stored(model.graph)
    both = [value.name for value in model.graph.input if value.name in stored]
    if both and model.ir_version >= IR_VERSION:
        found.append(f"in int8 the file holds {', '.join(both)[:120]} for good: what was stored can no longer be given as an input")
    return found


def _journal(work: Path, run: dict[str, Any], progress: Progress) -> Journal:
    """What is known of this tuning, which may be nothing; says whether it goes on."""
    found = Journal(work, run)
    if found.resumed:
        progress.say(f"going on after {found.seconds:.0f} s of an earlier run")
    elif found.other:
        progress.say("begun anew: what was left of a killed tuning is of other options, data or another machine")
    return found


def _task(
    file: Path, model: onnx.ModelProto, work: Path, parts: Parts, baseline: Candidate, options: Options, bench: Bench
) -> Task:  # fmt: skip
    """What kinds of candidates are told; of a file that the quantizer cannot read as it is, a copy with all weights in it."""
    known, name = readable(model), file.name
    if known is not model or external_data.locations(onnx_file.read(file)):
        file = work / "readable.onnx"
        onnx_file.write(known, file)
    return Task(
        file, known, bench.parts, baseline, options.engines, settings.threads(options, baseline),
        partial(layer_measures.layer_times, bench, parts, baseline, file),
        partial(layer_measures.layer_errors, bench, known, parts),
        options.device, instruction_sets(), is_arm(), settings.batches(model, options, baseline), len(parts.proof), name,
    )  # fmt: skip


def _script(request: Request, options: Options, file: Path, out: Path) -> Path:
    """A network that the caller had in memory is named by the file that it was exported to."""
    target = request.target if request.module is None else str(file)
    of_network = request if request.module is None else Request(target, inputs=request.inputs)
    complete = request.inputs is None or isinstance(request.inputs, Path)
    return script.write(out, target, script.options_again(of_network, options, out), complete)


def _layers(task: Task, bench: Bench, found: Found) -> tuple[LayerChoice, ...]:
    """The table of layers, where int8 was tried."""
    whole = next((entry.candidate.build for entry in found.candidates if entry.candidate.precision == "int8"), None)
    if whole is None:
        return ()
    candidate = found.chosen.candidate
    chosen, errors = layers.read(bench.path(candidate.build)), task.layer_errors(whole)
    return layers.choices(task.model, chosen, task.layer_times("fp32"), task.layer_times(whole), errors, candidate.floats)


def _fingerprint(file: Path, parts: Parts, options: Options) -> dict[str, Any]:
    """What tells a tuning from others: the file, the samples, the options, the machine and the libraries."""
    shown = {k: repr(v) for k, v in vars(options).items() if k not in ("progress", "out")}
    machine = {k: v for k, v in conditions.of_machine("").items() if k not in ("clock", "load")}
    return {"file": files.sha256(file), "samples": parts.digest(), "options": shown, "machine": machine, "version": __version__}
