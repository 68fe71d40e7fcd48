"""What was answered, rightly or not, is let go of at once: nothing of it waits in a ring of references for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import json
import types

import numpy as np
import onnx
import pytest
from asking import binary
from serving_files import CPU
from small_models import counting

from deploykit.serving.app import Service, application
from deploykit.serving.models import Models
from deploykit.serving.repository import find

RAW = {"Inference-Header-Content-Length": "0"}
IDS = np.array([1, 2], np.int64).tobytes()


@pytest.fixture(scope="module")
def lookup(tmp_path_factory):
    """A network that fails for ids above 9."""
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Gather", ["table", "ids"], ["y"])],
        "lookup",
        [onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(np.arange(10, dtype=np.float32), "table")],
    )
    path = tmp_path_factory.mktemp("lookup") / "lookup.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), path)
    models = Models(find([path]), CPU)
    models.load_all()
    service = Service(models)
    yield service
    service.close()


@pytest.fixture(scope="module")
def app(lookup):
    return application(lookup)


def late():
    return binary({"ids": ("INT64", (2,), IDS)}, parameters={"timeout": 1})


ASKED = {
    "right": (200, IDS, RAW),
    "the network fails": (400, np.array([1, 99], np.int64).tobytes(), RAW),
    "half a number": (400, IDS[:-1], RAW),
    "no JSON": (400, b"{", {}),
    "unknown input": (400, json.dumps({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}]}).encode(), {}),
    "no encoding": (415, IDS, {**RAW, "Content-Encoding": "br"}),
    "no gzip": (400, IDS, {**RAW, "Content-Encoding": "gzip"}),
    "late": (503, *late()),
}


@pytest.fixture(scope="module")
def counter(tmp_path_factory):
    """A network that counts as far as it is asked to."""
    path = tmp_path_factory.mktemp("counter") / "counter.onnx"
    onnx.save(counting(), path)
    models = Models(find([path]), CPU)
    models.load_all()
    service = Service(models)
    yield application(service)
    service.close()


def scope_of(path: str, headers: dict[str, str]) -> dict[str, object]:
    return {
        "type": "http", "http_version": "1.1", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2), "scheme": "http", "root_path": "",
    }  # fmt: skip


async def status(app: object, path: str, body: bytes, headers: dict[str, str]) -> int:
    """One request, by ASGI alone: a client of HTTP would leave garbage of its own."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    found: list[int] = []

    async def receive() -> dict[str, object]:
        if not messages:
            await asyncio.sleep(60)  # the caller stays
        return messages.pop()

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            found.append(message["status"])

    await app(scope_of(path, headers), receive, send)
    return found[0]


def ours(garbage: list[object]) -> list[object]:
    """Objects of deploykit, and frames of its functions."""
    frames = [each for each in garbage if isinstance(each, types.FrameType) and "deploykit" in each.f_code.co_filename]
    return [*frames, *(each for each in garbage if type(each).__module__.startswith("deploykit"))]


@pytest.fixture
def all_garbage():
    """A function that gives what only the collector would have found since the test began."""
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)

    def found():
        gc.collect()
        return ours(gc.garbage)

    yield found
    gc.set_debug(0)
    gc.garbage.clear()
    gc.enable()


@pytest.mark.parametrize("kind", ASKED)
def test_a_request_over_http_leaves_no_garbage(kind, app, all_garbage):
    expected, body, headers = ASKED[kind]

    async def several():
        return {await status(app, "/v2/models/lookup/infer", body, headers) for _ in range(5)}

    assert asyncio.run(several()) == {expected}
    assert all_garbage() == []


def test_a_run_that_is_given_up_leaves_no_garbage_and_holds_nobody_up(counter, all_garbage):
    url = "/v2/models/counter/infer"
    endless = binary({"count": ("INT64", (1,), np.array([1 << 60], np.int64).tobytes())}, parameters={"timeout": 100_000})
    short = binary({"count": ("INT64", (1,), np.array([3], np.int64).tobytes())})

    async def several():
        return [await status(counter, url, *asked) for asked in (endless, short, endless, short)]

    assert asyncio.run(several()) == [503, 200, 503, 200]
    assert all_garbage() == []


@pytest.mark.parametrize("given", [b"no image", IDS])
def test_a_refused_image_leaves_no_garbage(given, app, all_garbage):
    async def several():
        return {await status(app, "/v2/models/lookup/predict", given, {"Content-Type": "image/png"}) for _ in range(5)}

    assert asyncio.run(several()) == {400}
    assert all_garbage() == []


def test_a_batcher_that_is_embedded_leaves_no_garbage(all_garbage):
    from deploykit.errors import InputError, Unavailable
    from deploykit.runtime.batching import Batcher

    def run(inputs):
        if float(inputs["x"].sum()) < 0:
            raise InputError("less than nothing")
        return {"y": inputs["x"]}

    good, bad = np.ones((1, 2), np.float32), -np.ones((1, 2), np.float32)
    with Batcher(run, max_rows=4, delay=0.01) as batcher:
        for _ in range(5):
            with pytest.raises(InputError):
                batcher.run({"x": bad})
            with pytest.raises(Unavailable):
                batcher.run({"x": good}, timeout=0.0)
            waiting = [batcher.submit({"x": each}) for each in (good, bad * 3, good)]  # fails together, then each alone
            assert [type(future.exception()) for future in waiting] == [type(None), InputError, type(None)]
        del waiting
    assert all_garbage() == []


def test_a_refused_call_over_grpc_leaves_no_garbage(lookup, all_garbage):
    pytest.importorskip("grpc")
    from deploykit.serving.grpc_calls import Calls
    from deploykit.serving.grpc_messages import message
    from deploykit.serving.refusals import Refusal, forget

    class Context:
        def time_remaining(self) -> float | None:
            return None

    async def several():
        calls = Calls(lookup)
        for ids, kind in (([1, 99], "failed to run"), ([1], "bytes")):
            request = message("ModelInferRequest")(model_name="lookup")
            request.inputs.add(name="ids", datatype="INT64", shape=[2])
            request.raw_input_contents.append(np.array(ids, np.int64).tobytes())
            for _ in range(5):
                with pytest.raises(Refusal, match=kind) as caught:
                    await calls.ModelInfer(request, Context())
                forget(caught.value)  # as whoever answers the call does
                del caught

    asyncio.run(several())
    assert all_garbage() == []
