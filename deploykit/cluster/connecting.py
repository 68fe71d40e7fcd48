"""The cluster: found by its address within ten seconds, left again at the end, its workers looked at before they are asked."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from deploykit.errors import DependencyMissing, InputError, first_line
from deploykit.runtime.cores import cores

SECONDS = 10.0  # in which an address must answer
JOINING = 60.0  # in which a cluster that answers must let us in
CLIENT_PORT = 10001
OBJECTS = 256 << 20  # bytes of the object store of a Ray of our own: what lies in it is small


def require_ray() -> Any:
    """Ray, with its own talk turned off. Raises `DependencyMissing`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody asked this program to tell anybody
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pyarrow  # noqa: F401  # a plain Ray does not bring it
            import ray
    except ImportError as error:
        raise DependencyMissing.of(error.name or "ray", "ray") from error
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    return ray


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected: to one of its own for "local", to the one of this machine for "auto", or to "ray://HOST[:PORT]".

    A connection that is there already is used, whatever the address. Raises `DependencyMissing`, and `InputError` for an address
    that is none or does not answer within ten seconds.
    """
    ray = require_ray()
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"logging_level": logging.CRITICAL, "log_to_driver": False}
    if address == "local":
        options |= {"num_cpus": cores().usable, "object_store_memory": OBJECTS, "include_dashboard": False}
    elif address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address.startswith("ray://"):
        options = {}
    if address not in ("local", "auto"):
        address = _answering(address)
    _join(ray, address, options)
    try:
        yield ray
    finally:
        ray.shutdown()


def _answering(address: str) -> str:
    """The address with its port, if something takes a connection there. Raises `InputError`."""
    scheme, _, rest = address.rpartition("://")
    host, _, port = rest.rpartition(":") if ":" in rest else (rest, "", str(CLIENT_PORT) if scheme else "")
    if scheme not in ("", "ray") or not host or not port.isdecimal():
        raise InputError(f"{address!r:.200} is no address of a Ray cluster", "give local, auto, ray://HOST or ray://HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
        if scheme and not os.environ.get("RAY_USE_TLS"):
            _greet(f"{host}:{port}")
    except (OSError, OverflowError) as error:
        raise _silent(address, first_line(error)) from error
    return f"{scheme}://{host}:{port}" if scheme else f"{host}:{port}"


def _greet(server: str) -> None:
    """Raise `TimeoutError` where something takes the connection and is no gRPC server: a client of Ray would wait for it."""
    try:
        import grpc
    except ImportError as error:
        raise DependencyMissing.of("grpcio", "ray") from error
    with grpc.insecure_channel(server) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=SECONDS)
        except grpc.FutureTimeoutError as error:
            raise TimeoutError("it takes connections and says nothing") from error


def _join(ray: Any, address: str, options: dict[str, Any]) -> None:
    """`ray.init`, which waits for minutes for what does not answer, in a thread that is left alone then. Raises `InputError`.

    A Ray of our own is started in the caller's thread: its processes end with the thread that began them.
    """
    found: list[BaseException | None] = []

    def join() -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(address=address, **options)
            found.append(None)
        except BaseException as error:  # whatever it is, it is told in the caller's thread
            found.append(error)

    if address == "local":
        join()
    else:
        thread = threading.Thread(target=join, name="deploykit-ray", daemon=True)
        thread.start()
        thread.join(JOINING if address.startswith("ray://") else SECONDS)
    if not found:
        raise _silent(address, "it does not let us in")
    if isinstance(found[0], ImportError):
        raise DependencyMissing.of(found[0].name or "grpcio", "ray") from found[0]
    if found[0] is not None:
        raise _silent(address, first_line(found[0])) from found[0]


def _silent(address: str, reason: str) -> InputError:
    hint = "--ray local needs no cluster" if address == "auto" else "check the address, and that the cluster runs"
    return InputError(f"no Ray cluster answers at {address!r:.200}: {reason}", hint)


def versions() -> dict[str, str | None]:
    """The versions of deploykit and onnxruntime here."""
    import onnxruntime

    from deploykit._version import __version__

    return {"deploykit": __version__, "onnxruntime": onnxruntime.__version__}


def check_workers(ray: Any, first: str | None) -> None:
    """Raise `InputError` unless every machine of the cluster has the same deploykit and onnxruntime, and sees the file `first`."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # By value, for a machine without deploykit could not even load a function of this module: so nothing of it is used in there.
    def look(packages: list[str], place: str | None) -> tuple[dict[str, str | None], bool]:
        import importlib
        import os

        found: dict[str, str | None] = {}
        for package in packages:
            try:
                found[package] = importlib.import_module(package).__version__
            except ImportError:
                found[package] = None
        return found, place is None or os.path.lexists(place)

    here = versions()
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0]
    asking = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = [
        (
            node,
            asking.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                list(here), first
            ),
        )
        for node in nodes
    ]
    found, gone = 0, None
    for node, answer in asked:
        name = node.get("NodeManagerAddress", "?")
        try:
            there, sees = ray.get(answer, timeout=JOINING)
        except ray.exceptions.GetTimeoutError as error:
            raise InputError(f"the worker {name} does not answer", "look at it with `ray status`") from error
        except (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError) as error:
            gone = error  # it was lost a moment ago, and nothing is asked of it
            continue
        except ray.exceptions.RayError as error:
            raise InputError(f"the worker {name} cannot be asked: {first_line(error)}", "look at it with `ray status`") from error
        require_same(here, there, name)
        if not sees:
            raise InputError(
                f"the worker {name} does not see {first!r:.200}", "put the inputs where all see them: a share, s3://, gs://"
            )
        found += 1
    if not found:
        raise InputError("no machine of the cluster is left", "look at it with `ray status`") from gone


def require_same(here: Mapping[str, str | None], there: Mapping[str, str | None], worker: str) -> None:
    """Raise `InputError` unless a worker has the packages in the versions that are here."""
    for package, version in here.items():
        if there[package] is None:
            raise InputError(f"the worker {worker} has no {package}", "install there what is installed here")
        if there[package] != version:
            raise InputError(
                f"{package} is {version} here and {there[package]} on the worker {worker}: the answers could differ",
                "install the same version on all",
            )
