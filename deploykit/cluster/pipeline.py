"""Ray Data answers the parts: a pool of actors with a `Worker` each, and what they give as it comes."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploykit.cluster.worker import Asked, Worker, as_text, told_by
from deploykit.errors import DeploykitError, DeviceUnavailable, InputError, first_line

IN_FLIGHT = 2  # parts that an actor was given: the next one is there when the last is done


@dataclass(frozen=True)
class Done:
    """A part that is answered: its number, rows, how many of them have an error, and its file, `None` where that is written."""

    number: int
    rows: int
    errors: int
    data: bytes | None


@dataclass(frozen=True)
class Pool:
    """`size` actors with `cpus` and `gpus` each."""

    size: int
    cpus: int
    gpus: int


def pool_for(ray: Any, device: str, threads: int | None, actors: int | None) -> Pool:
    """As many actors as the machines that are there have room for, or `actors`.

    An actor has a GPU of its own and its share of the CPUs where there are GPUs, unless `device` is "cpu"; else `threads` CPUs, one
    where nothing else is asked for. Raises `DeviceUnavailable`, and `InputError` where no machine has so many CPUs.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if device.startswith("cuda") and not gpus:
        raise DeviceUnavailable(device, "the cluster has no GPU", "use --device cpu, or add workers that have one")
    if gpus and device != "cpu":
        with_gpu = [node for node in nodes if int(node.get("GPU", 0))]
        cpus = threads or max(1, min(int(node.get("CPU", 0) // node["GPU"]) for node in with_gpu))
        room = sum(min(int(node["GPU"]), int(node.get("CPU", 0)) // cpus) for node in with_gpu)
    else:
        gpus, cpus = 0, threads or 1
        room = sum(int(node.get("CPU", 0)) // cpus for node in nodes)
    if not room:
        raise InputError(f"no machine of the cluster has {cpus} CPUs", "ask for fewer --threads")
    return Pool(actors or room, cpus, min(gpus, 1))


def answered(ray: Any, parts: Sequence[bytes], model: Any, asked: Asked, pool: Pool) -> Iterator[Done]:
    """Packed parts -> what becomes of them, in the order in which they are done, each once. Memory stays bounded.

    Ends with the `DeploykitError` that a worker met, or with an exception of Ray's where a worker, its machine or the cluster is
    lost; what came before it is good.
    """
    if ray.util.client.ray.is_connected():
        yield from _through_client(ray, parts, model, asked, pool)
        return
    import pyarrow as pa
    from ray.data import ActorPoolStrategy, DataContext

    size = min(pool.size, len(parts))
    quiet = {"enable_progress_bars": False, "print_on_execution_start": False}
    with (
        warnings.catch_warnings(),
        _settings(DataContext.get_current(), {**quiet, "max_errored_blocks": 0}),
    ):
        warnings.simplefilter("ignore")
        # No restarts: an actor whose machine is lost would wait for room for ever, and what it was asked with it. And the first
        # loss ends the round: where losses are borne, Ray Data may wait for ever (ray-project/ray#62746).
        dataset = ray.data.from_arrow([pa.table({"part": [part]}) for part in parts]).map_batches(
            Worker,
            fn_constructor_args=(model, asked),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=IN_FLIGHT),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_restarts=0,
            max_task_retries=0,
        )
    for table in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        for row in table.to_pylist():
            if row["failed"] is not None:
                raise told_by(row["failed"])
            yield Done(row["part"], row["rows"], row["errors"], row["data"])


@contextlib.contextmanager
def _settings(context: Any, wanted: dict[str, Any]) -> Iterator[None]:
    """Ray Data's settings for the datasets that are made inside of the block, and as they were after it."""
    before = {name: getattr(context, name) for name in wanted}
    try:
        for name, value in wanted.items():
            setattr(context, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)


def said_by(error: BaseException) -> str:
    """What Ray says of a loss, in a line: Ray Data's own exception says nothing."""
    lines = [first_line(each) for each in _around(error)]
    return next((line for line in lines if " " in line), lines[0])


def _around(error: BaseException) -> Iterator[BaseException]:
    """An exception, and all that it was raised from."""
    seen: list[object] = []
    waiting: list[object] = [error]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and not any(found is each for each in seen):
            seen.append(found)
            yield found
            waiting += [getattr(found, "cause", None), found.__cause__, found.__context__]


class _Inside:
    """`answered` within the cluster, where a client cannot follow: it cannot take what comes piece by piece, and asks for the next.

    `model` lies in a list, or Ray would hand over what the reference stands for.
    """

    def __init__(self, parts: Sequence[bytes], model: Sequence[Any], asked: Asked, pool: Pool) -> None:
        from deploykit.cluster.connecting import require_ray

        self._done = answered(require_ray(), parts, model[0], asked, pool)

    def next(self) -> Done | str | None:
        """The next part that is done; a text as `told_by` takes it where a worker met an error; `None` at the end."""
        try:
            return next(self._done, None)
        except DeploykitError as error:
            return as_text(error)


def _through_client(ray: Any, parts: Sequence[bytes], model: Any, asked: Asked, pool: Pool) -> Iterator[Done]:
    inside = ray.remote(num_cpus=0, max_restarts=0)(_Inside).remote(list(parts), [model], asked, pool)
    try:
        while (found := ray.get(inside.next.remote())) is not None:
            if isinstance(found, str):
                raise told_by(found)
            yield found
    finally:
        ray.kill(inside)
