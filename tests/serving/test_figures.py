"""What a server tells of its models in numbers: the metrics to the letter, the statistics, the page's figures, the log."""

from __future__ import annotations

import json
import re

import pytest
from serving_files import CPU, doubling

from deploykit._version import __version__
from deploykit.runtime.batching import Figures
from deploykit.serving import app, description, gate, latencies, metrics
from deploykit.serving.models import Models
from deploykit.serving.repository import find

FIGURES = Figures(
    requests=3, failed=11, cancelled=13, late=17, refused=19, rows=5, executions=2, queued=0.25, computed=0.5, failed_seconds=0.125,
    sizes={4: (1, 0.375), 1: (6, 0.0625)}, waiting=7, running=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """One model that has not been asked anything, named m."""
    root = tmp_path_factory.mktemp("m")
    (root / "m.onnx").write_bytes(doubling().SerializeToString())
    models = Models(find([root]), CPU)
    models.load_all()
    service = app.Service(models)
    yield service
    service.close()


@pytest.fixture
def served(service, monkeypatch):
    """The model, with figures that are made up; what else it counted is empty."""
    found = service.models.get("m")
    monkeypatch.setattr(found.batcher, "figures", lambda: FIGURES)
    monkeypatch.setattr(found, "latencies", latencies.Latencies())
    monkeypatch.setattr(found, "refused", type(found.refused)())
    return found


def families(text):
    """name -> (type, help, {labels: value}) of the text format of Prometheus; histograms under their own name."""
    found, name = {}, ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            name, _, about = line.removeprefix("# HELP ").partition(" ")
            assert name not in found, "a family is one block"
            found[name] = ["", about, {}]
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == name, "the type follows the help"
            found[name][0] = line.split(" ")[3]
        else:
            sample, labels, value = re.fullmatch(r"(\w+)(\{.*\})? (\S+)", line).groups()
            assert sample.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count") == name
            found[name][2][sample.removeprefix(name), *re.findall(r'(\w+)="([^"]*)"', labels or "")] = float(value)
    return {name: tuple(entry) for name, entry in found.items()}


ONE = ("model", "m"), ("version", "1")


def test_every_family_of_the_metrics(service, served):
    served.refused.update({"invalid": 4, "full": 2})
    for seconds in (0.0005, 0.001, 0.002, 0.02, 30.0):
        served.latencies.add(seconds)
    found = families(metrics.text(service))
    bounds = ("0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")
    counts = (2, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 4, 5)
    histogram = {("_bucket", *ONE, ("le", bound)): count for bound, count in zip(bounds, counts, strict=True)}
    histogram |= {("_sum", *ONE): 30.0235, ("_count", *ONE): 5}
    assert found == {
        "deploykit_info": ("gauge", "The version.", {("", ("version", __version__)): 1}),
        "deploykit_ready": ("gauge", "1 where every model answers.", {("",): 1}),
        "deploykit_request_success_total": ("counter", "Requests that the network answered.", {("", *ONE): 3}),
        "deploykit_request_failure_total": (
            "counter",
            "Requests that got no answer, by reason.",
            {("", *ONE, ("reason", "full")): 2, ("", *ONE, ("reason", "invalid")): 4},
        ),
        "deploykit_rows_total": ("counter", "Rows of answered requests.", {("", *ONE): 5}),
        "deploykit_executions_total": (
            "counter",
            "Runs of the network: rows by executions is the mean batch.",
            {("", *ONE): 2},
        ),
        "deploykit_pending_requests": ("gauge", "Requests that wait or run.", {("", *ONE): 47}),
        "deploykit_queue_seconds_total": ("counter", "Seconds that answered requests waited.", {("", *ONE): 0.25}),
        "deploykit_compute_seconds_total": (
            "counter",
            "Seconds that the runs of answered requests took, once for each request.",
            {("", *ONE): 0.5},
        ),
        "deploykit_request_seconds": ("histogram", "From the head of a request to its answer.", histogram),
    }
    assert metrics.CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
    reasons = [line for line in metrics.text(service).splitlines() if "reason=" in line]
    assert reasons == sorted(reasons)
    assert metrics.text(service).endswith("\n")
    assert "\n\n" not in metrics.text(service)


def test_numbers_of_the_metrics_keep_nine_digits(service, served, monkeypatch):
    served.latencies.add(0.123456789)
    monkeypatch.setattr(served.batcher, "figures", lambda: Figures(requests=123_456_789, queued=0.123456789))
    found = families(metrics.text(service))
    assert found["deploykit_request_success_total"][2]["", *ONE] == 123_456_789
    assert found["deploykit_queue_seconds_total"][2]["", *ONE] == 0.123456789
    assert found["deploykit_request_seconds"][2]["_sum", *ONE] == 0.123456789


def test_the_metrics_of_a_server_that_stops(service, served, monkeypatch):
    monkeypatch.setattr(service, "stopping", True)
    assert families(metrics.text(service))["deploykit_ready"][2] == {("",): 0}


def test_the_statistics_are_those_of_the_line(served):
    served.refused.update({"invalid": 4, "full": 2})
    served.last_inference = 12.3456
    assert description.statistics(served) == {
        "name": "m",
        "version": "1",
        "last_inference": 12346,
        "inference_count": 5,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 3, "ns": 750_000_000},
            "fail": {"count": 6, "ns": 125_000_000},
            "queue": {"count": 3, "ns": 250_000_000},
            "compute_input": {"count": 3, "ns": 0},
            "compute_infer": {"count": 3, "ns": 500_000_000},
            "compute_output": {"count": 3, "ns": 0},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
            "cancel": {"count": 13, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": runs, "ns": 0},
                "compute_infer": {"count": runs, "ns": ns},
                "compute_output": {"count": runs, "ns": 0},
            }
            for size, runs, ns in ((1, 6, 62_500_000), (4, 1, 375_000_000))
        ],
    }


def test_the_figures_of_the_page(served):
    assert description.live(served)["p50_ms"] is None, "before the first request"
    served.refused.update({"invalid": 4, "full": 2})
    for milliseconds in range(1, 201):
        served.latencies.add(milliseconds / 1000)
    assert description.live(served) == {
        "requests": 3, "rows": 5, "executions": 2, "mean_batch": 2.5, "refused": 6, "waiting": 7, "running": 40,
        "p50_ms": 101.0, "p99_ms": 199.0,
    }  # fmt: skip


def test_what_a_model_says_of_itself(served):
    assert description.contract(served) == {
        "name": "m", "version": "1", "device": "cpu", "file": "m.onnx", "has_contract": True, "takes_images": False,
        "input": vars(served.predictor.contract.input),
        "activation": "none", "labels": None, "verdict": None, "network": None, "shares_runs": True, "note": "", "max_batch_size": 8,
        "tensors": {
            "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "out", "datatype": "FP32", "shape": [-1, 2]}],
        },
    }  # fmt: skip
    config = description.config(served)
    assert config["dynamic_batching"] == {"preferred_batch_size": [8], "max_queue_delay_microseconds": 0}
    assert config["instance_group"] == [{"name": "m", "kind": "KIND_CPU", "count": 1}]
    assert (config["platform"], config["default_model_filename"]) == ("onnx_onnxv1", "m.onnx")
    assert config["version_policy"] == {"latest": {"num_versions": 1}}


def test_latencies_are_counted_from_below_and_only_the_latest_decide_the_quantiles():
    found = latencies.Latencies()
    assert found.quantile(0.5) is None
    assert found.histogram() == ([0] * 14, 0.0)
    found.add(7.0)
    assert (found.quantile(0.0), found.quantile(1.0)) == (7.0, 7.0)
    for _ in range(512):
        found.add(0.5)
    assert found.quantile(1.0) == 0.5, "of the latest 512 requests"
    assert found.histogram() == ([0, 0, 0, 0, 0, 0, 0, 0, 512, 512, 512, 512, 513, 513], 263.0)


def test_milliseconds_of_the_log():
    seen = gate.Seen()
    told = {"model": "m", "queued_ms": 0.0012345678, "batch": 3}
    scope = {"type": "http", "method": "GET", "path": "/" + "x" * 600, "client": ("10.0.0.1", 5), "deploykit.log": told}
    said = json.loads(gate.line(scope | {"deploykit.error": "e" * 400}, seen, 0.0012345678))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", said.pop("time"))
    assert said == {
        "client": "10.0.0.1", "method": "GET", "path": "/" + "x" * 499, "status": 499, "ms": 1.235, "bytes_in": 0, "bytes_out": 0,
        "model": "m", "queued_ms": 0.001, "batch": 3, "error": "e" * 300,
    }  # fmt: skip
    assert json.loads(gate.line({"method": "GET", "path": "/"}, seen, 0.0))["client"] is None


def test_a_request_is_logged_with_what_its_run_took(served, service, monkeypatch):
    from starlette.testclient import TestClient

    monkeypatch.undo()
    lines = []
    with TestClient(gate.Gate(app.application(service), service, None, lines.append)) as client:
        body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [2, 3], "data": [1] * 6}]}
        answer = client.post("/v2/models/m/infer", json=body)
    assert (answer.headers["x-content-type-options"], answer.headers["cache-control"]) == ("nosniff", "no-store")
    said = json.loads(lines[0])
    assert (said["method"], said["path"], said["status"], said["model"], said["batch"]) == (
        "POST",
        "/v2/models/m/infer",
        200,
        "m",
        2,
    )
    assert said["bytes_in"] == int(answer.request.headers["content-length"])
    assert said["bytes_out"] == len(answer.content)
    assert 0 <= said["queued_ms"] <= said["ms"]
    assert 0 <= said["computed_ms"] <= said["ms"]
