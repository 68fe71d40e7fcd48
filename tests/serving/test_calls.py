"""The gRPC side without a port: its calls are asked one by one, by a context that is made up."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from serving_files import CPU, digits, two_by_two

grpc = pytest.importorskip("grpc", reason="the extra grpc is not installed")

from deploykit.errors import InputError  # noqa: E402
from deploykit.serving import grpc_calls, grpc_inference, grpc_service  # noqa: E402
from deploykit.serving.app import Service  # noqa: E402
from deploykit.serving.bodies import Limits  # noqa: E402
from deploykit.serving.gate import Tokens  # noqa: E402
from deploykit.serving.grpc_messages import SERVICE, health, message  # noqa: E402
from deploykit.serving.inference import MAX_ID  # noqa: E402
from deploykit.serving.models import Models  # noqa: E402
from deploykit.serving.refusals import Refusal  # noqa: E402
from deploykit.serving.repository import find  # noqa: E402

TOKEN = "t" * 32


class Context:
    """Of one call: how much time is left, what was sent beside it, and how it ended."""

    def __init__(self, left=None, metadata=()):
        self.left, self.metadata, self.code, self.details = left, metadata, None, None

    def time_remaining(self):
        return self.left

    def invocation_metadata(self):
        return self.metadata

    def set_code(self, code):
        self.code = code.name

    def set_details(self, details):
        self.details = details


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """digits in versions 1 and 2, and pair."""
    root = tmp_path_factory.mktemp("models")
    for path, model in (("digits/1", digits()), ("digits/2", digits()), ("pair", two_by_two())):
        (root / path).mkdir(parents=True)
        (root / path / "model.onnx").write_bytes(model.SerializeToString())
    models = Models(find([root]), CPU)
    models.load_all()
    service = Service(models)
    yield service
    service.close()


@pytest.fixture
def calls(service):
    return grpc_calls.Calls(service)


def request(rows=1, **more):
    made = message("ModelInferRequest")(model_name="pair", **more)
    for name, value in (("a", 5.0), ("b", 2.0)):
        made.inputs.add(name=name, datatype="FP32", shape=[rows, 3])
        made.raw_input_contents.append(np.full((rows, 3), value, "<f4").tobytes())
    return made


def ask(call, made, context=None):
    return asyncio.run(call(made, context or Context()))


def test_calls_are_counted_while_they_run_and_no_longer(calls, service, monkeypatch):
    assert (calls.closed, calls.under_way) == (False, 0)
    served, seen = service.models.get("pair"), []
    infer = calls._infer

    async def watched(*given):
        seen.append(calls.under_way)
        return await infer(*given)

    monkeypatch.setattr(calls, "_infer", watched)
    before = served.latencies.histogram()[0][-1]
    ask(calls.ModelInfer, request())
    assert (seen, calls.under_way) == ([1], 0)
    assert served.latencies.histogram()[0][-1] == before + 1
    refused = served.refused["invalid"]
    with pytest.raises(Refusal):
        ask(calls.ModelInfer, message("ModelInferRequest")(model_name="pair"))
    assert calls.under_way == 0, "nor after a refusal"
    assert served.refused["invalid"] == refused + 1
    assert served.latencies.histogram()[0][-1] == before + 1, "what was refused took no time"


def test_what_is_closed_takes_no_calls_and_tells_where_to_go(calls):
    calls.closed = True
    with pytest.raises(Refusal, match="stopping; ask another one") as refused:
        ask(calls.ModelInfer, request())
    assert (refused.value.status, refused.value.reason) == (503, "stopping")


def test_the_end_waits_for_what_is_under_way_and_no_longer(calls, monkeypatch):
    monkeypatch.setattr(grpc_service.asyncio, "sleep", waited := Waits())
    monkeypatch.setattr(grpc_service.time, "monotonic", lambda: waited.clock)
    stopped = []

    class Server:
        async def stop(self, seconds):
            stopped.append(seconds)

    side = grpc_service.Side(Server(), 5, calls)
    assert side.port == 5
    waited.then = {3: lambda: setattr(calls, "under_way", 0)}
    calls.under_way = 1
    asyncio.run(side.stop(30))
    assert (calls.closed, stopped) == (True, [0.1])
    assert waited.asked == [0.2, 0.02, 0.02]
    calls.under_way, waited.asked, waited.clock = 1, [], 0.0
    asyncio.run(side.stop(1.0))
    assert sum(waited.asked) == pytest.approx(1.0, abs=0.03), "at most so many seconds"


class Waits:
    """In place of `asyncio.sleep`: the clock goes on, and at the n-th call something happens."""

    def __init__(self):
        self.clock, self.asked, self.then = 0.0, [], {}

    async def __call__(self, seconds):
        self.clock += seconds
        self.asked.append(seconds)
        self.then.pop(len(self.asked), lambda: None)()


def test_an_answer_has_every_output_in_order_or_those_that_are_asked_for(calls):
    answer = ask(calls.ModelInfer, request(2, id="7"))
    assert (answer.model_name, answer.model_version, answer.id) == ("pair", "1", "7")
    assert [(out.name, out.datatype, list(out.shape)) for out in answer.outputs] == [
        ("sum", "FP32", [2, 3]),
        ("difference", "FP32", [2, 3]),
    ]
    assert [np.frombuffer(raw, "<f4").tolist() for raw in answer.raw_output_contents] == [[7.0] * 6, [3.0] * 6]
    made = request()
    made.outputs.add(name="difference").parameters["classification"].int64_param = 2
    answer = ask(calls.ModelInfer, made)
    assert [(out.name, out.datatype, list(out.shape)) for out in answer.outputs] == [("difference", "BYTES", [1, 2])]
    assert answer.raw_output_contents[0] == b"\x0a\0\0\0003.000000:0\x0a\0\0\0003.000000:1"


def test_typed_contents_are_taken_and_not_mixed_with_raw_ones(calls):
    made = message("ModelInferRequest")(model_name="pair")
    for name, value in (("a", 5.0), ("b", 2.0)):
        made.inputs.add(name=name, datatype="FP32", shape=[1, 3]).contents.fp32_contents.extend([value] * 3)
    assert np.frombuffer(ask(calls.ModelInfer, made).raw_output_contents[0], "<f4").tolist() == [7.0] * 3
    made.raw_input_contents.append(b"")
    with pytest.raises(Refusal, match="2 inputs come with 1 raw contents and 2 typed ones"):
        ask(calls.ModelInfer, made)
    made = request()
    made.raw_input_contents.append(b"")
    with pytest.raises(Refusal, match="2 inputs come with 3 raw contents and 0 typed ones"):
        ask(calls.ModelInfer, made)
    made = message("ModelInferRequest")(model_name="pair")
    made.inputs.add(name="a", datatype="FP32", shape=[1, 3]).contents.fp64_contents.extend([1.0] * 3)
    with pytest.raises(Refusal, match="the input 'a' of FP32 has fp64_contents, not fp32_contents"):
        ask(calls.ModelInfer, made)
    made = request()
    made.inputs[1].name = "a"
    with pytest.raises(Refusal, match="the input 'a' is given twice"):
        ask(calls.ModelInfer, made)


@pytest.mark.parametrize(("length", "fits"), [(MAX_ID, True), (MAX_ID + 1, False)])
def test_an_id_has_a_longest_length(calls, length, fits):
    made = request(id="x" * length)
    if fits:
        assert ask(calls.ModelInfer, made).id == "x" * MAX_ID
    else:
        with pytest.raises(Refusal, match="id must be a text of at most 1024 characters"):
            ask(calls.ModelInfer, made)


@pytest.mark.parametrize(("classes", "fits"), [(0, True), (100_000, True), (100_001, False), (-1, False), (True, False)])
def test_how_many_classes_can_be_asked_for(calls, service, classes, fits):
    made = request()
    asked = made.outputs.add(name="sum").parameters["classification"]
    setattr(asked, "bool_param" if classes is True else "int64_param", classes)
    if fits:
        found = grpc_inference.read_request(made, service.models.get("pair"))
        assert [(wanted.name, wanted.binary, wanted.classes) for wanted in found.outputs] == [("sum", True, classes)]
    else:
        with pytest.raises(InputError, match="classification must be a whole number, not"):
            grpc_inference.read_request(made, service.models.get("pair"))


def test_the_shortest_of_all_times_counts(calls, service, monkeypatch):
    """Of the caller's parameter, its deadline and the server's own; what takes longer is refused as late."""
    given = []
    served = service.models.get("pair")
    submit = served.submit
    monkeypatch.setattr(served, "submit", lambda inputs, timeout: given.append(timeout) or submit(inputs, timeout))
    made = request()
    ask(calls.ModelInfer, made)
    ask(calls.ModelInfer, made, Context(left=7.0))
    made.parameters["timeout"].int64_param = 5_000_000
    ask(calls.ModelInfer, made, Context(left=7.0))
    assert given == [60.0, 7.0, 5.0]
    monkeypatch.setattr(served, "submit", lambda *_: asyncio_never())
    made.parameters["timeout"].int64_param = 1000
    with pytest.raises(Refusal, match=r"there was no answer within 0\.001 seconds") as refused:
        ask(calls.ModelInfer, made)
    assert (refused.value.status, refused.value.reason) == (503, "late")
    assert served.refused["late"] >= 1


def asyncio_never():
    """A future of a thread that nobody answers."""
    from concurrent.futures import Future

    return Future()


def test_what_is_ready(calls, service, monkeypatch):
    assert ask(calls.ServerLive, None).live
    assert ask(calls.ServerReady, None).ready
    asked = message("ModelReadyRequest")(name="digits", version="2")
    assert ask(calls.ModelReady, asked).ready
    check = health("HealthCheckRequest")
    assert [ask(calls.Check, check(service=name)).status for name in ("", SERVICE, "pair")] == [1, 1, 1]
    with pytest.raises(Refusal):
        ask(calls.Check, check(service="nothing"))
    monkeypatch.setattr(service, "stopping", True)
    assert not ask(calls.ServerReady, None).ready
    assert not ask(calls.ModelReady, asked).ready
    assert ask(calls.Check, check()).status == 2


def test_metadata_statistics_and_the_index(calls):
    found = ask(calls.ModelMetadata, message("ModelMetadataRequest")(name="digits"))
    assert (found.name, list(found.versions), list(found.inputs[0].shape)) == ("digits", ["1", "2"], [-1, 1, 8, 8])
    assert ask(calls.ServerMetadata, None).name == "deploykit"
    assert ask(calls.ModelConfig, message("ModelConfigRequest")(name="digits", version="1")).config.max_batch_size == 8
    asked = message("ModelStatisticsRequest")

    def told(**given):
        return [(each.name, each.version) for each in ask(calls.ModelStatistics, asked(**given)).model_stats]

    assert told(name="digits", version="1") == [("digits", "1")]
    assert told(name="digits") == [("digits", "1"), ("digits", "2")]
    assert told() == [("digits", "1"), ("digits", "2"), ("pair", "1")]
    index = ask(calls.RepositoryIndex, message("RepositoryIndexRequest")()).models
    assert [(each.name, each.version, each.state) for each in index][-1] == ("pair", "1", "READY")


def test_models_are_changed_only_where_that_is_allowed(calls, service, monkeypatch):
    load = message("RepositoryModelLoadRequest")(model_name="pair")
    unload = message("RepositoryModelUnloadRequest")(model_name="pair")
    for call, made in ((calls.RepositoryModelLoad, load), (calls.RepositoryModelUnload, unload)):
        with pytest.raises(Refusal, match="start with --allow-reload, or send SIGHUP") as refused:
            ask(call, made)
        assert refused.value.status == 403
    monkeypatch.setattr(service, "allow_reload", True)
    ask(calls.RepositoryModelUnload, unload)
    ready, whole = (ask(calls.RepositoryIndex, message("RepositoryIndexRequest")(ready=only)).models for only in (True, False))
    assert [each.name for each in ready] == ["digits", "digits"]
    assert [(each.name, each.state, each.reason) for each in whole][-1] == ("pair", "UNAVAILABLE", "unloaded")
    assert service.ready, "it is as somebody wanted it"
    ask(calls.RepositoryModelLoad, load)
    assert service.ready
    with pytest.raises(Refusal, match="there is no model 'x'"):
        ask(calls.RepositoryModelLoad, message("RepositoryModelLoadRequest")(model_name="x"))


def test_a_stream_goes_on_after_what_is_refused(calls):
    async def requests():
        for made in (request(id="1"), None, message("ModelInferRequest")(model_name="nothing", id="2"), request(id="3")):
            yield made

    async def collect():
        return [answer async for answer in calls.ModelStreamInfer(requests(), Context())]

    found = asyncio.run(collect())
    assert [answer.infer_response.id for answer in found] == ["1", "", "2", "3"]
    assert [answer.error_message.split(";")[0] for answer in found] == [
        "",
        "the message cannot be read",
        "there is no model 'nothing'",
        "",
    ]


def test_refusals_become_statuses_and_a_token_is_asked_for(tmp_path, caplog):
    (tmp_path / "token").write_text(f"# ours\n{TOKEN}\n")
    tokens = Tokens.read(tmp_path / "token")

    async def refuse(made, _context):
        raise made

    def ended(error, is_open=True, metadata=()):
        context = Context(metadata=metadata)
        assert ask(grpc_service._guarded(refuse, tokens, is_open), error, context) is None, "gRPC sends no message with a status"
        return context.code, context.details

    assert ended(Refusal(404, "gone")) == ("NOT_FOUND", "gone")
    assert ended(Refusal(599, "odd")) == ("UNKNOWN", "odd")
    assert ended(InputError("wrong", "mend it")) == ("INVALID_ARGUMENT", "wrong; mend it")
    assert not caplog.records, "a refusal is no fault"
    assert ended(None) == ("INVALID_ARGUMENT", "the message cannot be read")
    assert ended(RuntimeError("secret")) == ("INTERNAL", "internal error (RuntimeError)")
    assert [record.message for record in caplog.records] == ["the call failed"]
    needed = ("UNAUTHENTICATED", "a token is needed: send the metadata authorization: Bearer TOKEN")
    right = ("authorization", f"Bearer {TOKEN}")
    assert ended(Refusal(404, "gone"), False) == needed
    assert ended(Refusal(404, "gone"), False, [right, right]) == needed, "one, not several"
    assert ended(Refusal(404, "gone"), False, [("other", right[1])]) == needed
    assert ended(Refusal(404, "gone"), False, [right, ("other", "x")]) == ("NOT_FOUND", "gone")


def test_bytes_that_are_no_message_are_none():
    read = grpc_service._reader(message("ModelInferRequest"))
    assert read(b"\xff\xff") is None
    assert read(request(id="9").SerializeToString()).id == "9"
    assert grpc_service._serialized(request(id="9")) == request(id="9").SerializeToString()


def test_every_call_of_the_service_is_known_and_no_other(calls):
    handlers = grpc_service._handlers(calls, None)

    class Details:
        def __init__(self, method):
            self.method, self.invocation_metadata = method, ()

    names = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics",
             "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload", "ModelInfer", "ModelStreamInfer")  # fmt: skip
    for name in names:
        found = handlers.service(Details(f"/{SERVICE}/{name}"))
        assert found.request_streaming == found.response_streaming == (name == "ModelStreamInfer"), name
        assert found.request_deserializer(b"").DESCRIPTOR.name == f"{name.replace('Stream', '')}Request"
        assert found.response_serializer(message("ModelReadyResponse")(ready=True)) == b"\x08\x01"
    check = handlers.service(Details("/grpc.health.v1.Health/Check"))
    answer = asyncio.run(check.unary_unary(check.request_deserializer(b""), Context()))
    assert check.response_serializer(answer) == b"\x08\x01", "serving"
    assert handlers.service(Details("/grpc.health.v1.Health/Watch")) is None
    assert handlers.service(Details(f"/{SERVICE}/Nothing")) is None


def test_a_server_takes_messages_up_to_the_limit_and_ports_that_are_free(service, monkeypatch):
    given = {}
    server = grpc.aio.server

    def noted(**options):
        given.update(options)
        return server(**options)

    monkeypatch.setattr(grpc_service.grpc.aio, "server", noted)
    monkeypatch.setattr(service.budget, "limits", Limits(body=12345))

    async def both():
        side = await grpc_service.start(service, "127.0.0.1", 0, None, None)
        try:
            assert side.port > 0
            with pytest.raises(
                InputError, match=rf"cannot listen on port {side.port} of 127.0.0.1 for gRPC; choose another with --grpc-port"
            ):
                await grpc_service.start(service, "127.0.0.1", side.port, None, None)
        finally:
            await side.stop(0)

    asyncio.run(both())
    assert dict(given["options"]) == {
        "grpc.max_receive_message_length": 12345,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": 0,
    }
    assert given["maximum_concurrent_rpcs"] == 4096


def test_the_stream_of_the_service_asks_for_a_token_first(calls, tmp_path):
    (tmp_path / "token").write_text(TOKEN)

    class Details:
        method, invocation_metadata = f"/{SERVICE}/ModelStreamInfer", ()

    handler = grpc_service._handlers(calls, Tokens.read(tmp_path / "token")).service(Details())

    async def requests():
        yield handler.request_deserializer(request(id="4").SerializeToString())

    async def collect(context):
        return [handler.response_serializer(answer) async for answer in handler.stream_stream(requests(), context)]

    (raw,) = asyncio.run(collect(Context(metadata=[("authorization", f"Bearer {TOKEN}")])))
    assert message("ModelStreamInferResponse").FromString(raw).infer_response.id == "4"
    refused = Context()
    assert asyncio.run(collect(refused)) == []
    assert refused.code == "UNAUTHENTICATED"


def test_a_call_whose_model_was_closed_under_it_is_asked_of_the_new_one(calls, service, monkeypatch):
    old = service.models.get("pair")
    submit = old.submit

    def submit_too_late(*given):
        service.models.load("pair")
        return submit(*given)

    monkeypatch.setattr(old, "submit", submit_too_late)
    assert np.frombuffer(ask(calls.ModelInfer, request()).raw_output_contents[0], "<f4").tolist() == [7.0] * 3
    assert (old.closed, service.models.get("pair").closed) == (True, False)
