"""`predict` on a cluster: read it from top to bottom. The run is written down, what is missing is asked, what comes is kept."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from deploykit import arguments as read
from deploykit import files
from deploykit.arguments import StrPath
from deploykit.cluster import places
from deploykit.cluster.answering import Ran, answer
from deploykit.cluster.connecting import check_workers, connected, require_ray, versions
from deploykit.cluster.folder import Folder
from deploykit.cluster.listing import inputs_of
from deploykit.cluster.planning import parts_of
from deploykit.cluster.pool import pool_for
from deploykit.cluster.result import ClusterPrediction
from deploykit.cluster.tables import KINDS
from deploykit.cluster.work import Work
from deploykit.cluster.worker import Asked
from deploykit.errors import ContractError, InputError
from deploykit.progress import Progress
from deploykit.runtime import Predictor
from deploykit.runtime.contract import Contract
from deploykit.runtime.onnx_bytes import check_external_data, read_model
from deploykit.runtime.predictor import MAX_BATCH


def predict(
    file: StrPath,
    sources: StrPath | Iterable[StrPath],
    *,
    out: StrPath,
    ray: str = "local",
    resume: bool = False,
    column: str | None = None,
    rows_as: str = "parquet",
    top: int = 1,
    batch_size: int = 64,
    device: str = "auto",
    threads: int | None = None,
    actors: int | None = None,
    progress: Progress | None = None,
) -> ClusterPrediction:
    """Answer any number of inputs on a Ray cluster, each once, into the folder `out`: a file for every part of about 1,000 rows.

    `file`: an ONNX file with a contract; it travels to the workers, and so do its preprocessing and labels. `sources`: files,
    folders, patterns such as "digits/*.png", lists in a .txt file (a path per line), .parquet files with a `column` of image
    files; here or in a store (s3://, gs://). `out`: a folder or URI. `ray`: "local" for all cores of this machine, "auto" for the
    cluster that it belongs to, or "ray://HOST". `rows_as`: "parquet" or "jsonl". `device`: "auto" takes GPUs where the cluster has
    any. `threads`: CPUs of each actor. `actors`: how many of them, `None` for as many as there is room for now.

    The rows have the columns row (from 0, in the order of the sources), path, those of the file's task, and error: an image that
    cannot be read is a row with an error. A worker or machine that is lost costs what it was at: that is asked again. With
    `resume` a run whose driver was killed goes on with what is not in `out`; where nothing is there yet it begins.

    Raises what `Predictor` raises, `InputError` for sources that are not there or vanish, an address that does not answer, workers
    that have other versions or do not see the inputs, and a folder of another run, `Unavailable` where workers are lost again and
    again, `DeviceUnavailable`, `OutputError`, `DependencyMissing`. What was answered before is in `out`, and stays.
    """
    path, told = read.path(file, "file"), read.progress(progress)
    given = [os.fspath(sources)] if isinstance(sources, (str, os.PathLike)) else [os.fspath(each) for each in sources]
    if not given:
        raise InputError("nothing to predict: no sources were given", "give files, folders or patterns such as 'digits/*.png'")
    top, batch_size = read.whole(top, "top", 1), read.whole(batch_size, "batch_size", 1, MAX_BATCH)
    threads, actors = read.whole(threads, "threads", 1, 1024), read.whole(actors, "actors", 1, 1 << 20)
    kind, resume = read.choice(rows_as, "rows_as", KINDS), read.flag(resume, "resume")
    require_ray()
    told.start("reading the file")
    contract, model = _opened(path)
    folder = Folder(_absolute(os.fspath(out)))
    run = _run(path, given, contract, column, top, batch_size, kind)
    begun = folder.begin(run, resume)
    listed = folder.listed() if begun else None
    if listed is None:
        told.start("listing the inputs")
        listed = folder.keep_list(parts_of(inputs_of(map(_absolute, given), contract, column), batch_size))
    work, ran = Work(folder, kind, listed["parts"]), Ran()
    if work.missing:
        asked = Asked(device, threads or 1, 1, batch_size, top, contract.output.task, kind, folder.out if folder.shared else None)
        told.start("connecting to Ray")
        with connected(read.text(ray, "ray", "auto")) as cluster:
            check_workers(cluster, _local_file(folder, listed["parts"]))
            model = cluster.put(model)
            ran = answer(cluster, work, model, asked, lambda: pool_for(cluster, device, threads, actors), listed["rows"], told)
    return ClusterPrediction(
        str(path),
        folder.out,
        work.rows,
        work.errors,
        listed["parts"],
        work.resumed,
        ran.seconds,
        ran.actors,
        ran.lost,
    )


def _opened(path: Path) -> tuple[Contract, bytes | str]:
    """The contract of a file, and the file as it travels: its bytes, or its path where its weights lie beside it.

    Raises what `Predictor` raises.
    """
    with Predictor(path, "cpu", threads=1, spinning=False) as model:
        if model.contract is None:
            raise ContractError(f"{path} has no contract", "export the network with `deploykit export`")
        contract = model.contract
    data = read_model(path)
    return contract, str(path.resolve()) if check_external_data(data, path) else data


def _run(
    path: Path, sources: Sequence[str], contract: Contract, column: str | None, top: int, batch_size: int, kind: str
) -> dict[str, Any]:
    """What the answers are made of, as it stands in the folder: a run of anything else is another run."""
    return {
        "file": files.sha256(path),
        "task": contract.output.task,
        "sources": list(sources),
        "column": column,
        "top": top,
        "batch_size": batch_size,
        "rows_as": kind,
        **versions(),
    }


def _absolute(place: str) -> str:
    """A local path as workers find it, which have other current folders."""
    return place if places.is_uri(place) else os.path.abspath(place)  # noqa: PTH100  # a pattern is no path


def _local_file(folder: Folder, parts: int) -> str | None:
    """An input that every worker must see: the first, where that is a local file that is there."""
    first = next(folder.parts(parts, set()), None)
    place = None if first is None else first.inputs[0] if isinstance(first.inputs, list) else first.inputs["file"]
    return place if place is not None and not places.is_uri(place) and places.is_there(place) else None
