"""How many actors a cluster has room for, and what each of them gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploykit.errors import DeviceUnavailable, InputError


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
