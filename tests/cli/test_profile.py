"""``deploykit profile`` as a user types it."""

from __future__ import annotations

import csv
import io
import json

import pytest
from PIL import Image


def test_the_paddle_table_of_lenet5(cli):
    done = cli("profile", "lenet5", "--untrained", "--no-latency", "--convention", "paddle", "--format", "csv")
    assert done.exit_code == 0, done.stderr
    *rows, total = csv.DictReader(io.StringIO(done.stdout))
    assert len(rows) == 7
    assert (total["params"], total["ops"]) == ("61706", "423344")


@pytest.mark.slow
def test_everything_at_once(cli, workdir):
    done = cli(
        "profile", "lenet5", "--untrained", "--threads", 1, "--format", "html", "--output", "page.html", "--plot", "picture.png"
    )
    assert done.exit_code == 0, done.stderr
    assert done.stdout == ""
    page = (workdir / "page.html").read_text()
    assert "ONNX Runtime ms" in page
    assert "faster" in page
    with Image.open(workdir / "picture.png") as picture:
        assert picture.width > picture.height


@pytest.mark.slow
def test_times_and_comparisons_in_json(cli):
    done = cli("profile", "lenet5", "--untrained", "--threads", 1, "--format", "json", "--convention", "flops", "--batch", 2)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["convention"], found["batch"], found["totals"]["ops"]) == ("flops", 2, 4 * 416_520)
    assert [entry["backend"] for entry in found["latency"]] == ["torch", "onnxruntime"]
    assert set(found["latency"][0]) >= {"device", "threads", "median_ms", "p95_ms", "p99_ms", "throughput", "peak_memory_bytes"}
    assert found["comparisons"][0]["verdict"] in ("faster", "slower", "no difference")
    for column in ("torch_ms", "onnxruntime_ms"):
        assert sum(row[column] or 0 for row in found["layers"]) == pytest.approx(found["totals"][column])
    assert all(row["ops"] == row["onnx_ops"] for row in found["layers"])


@pytest.mark.slow
def test_two_spellings_of_one_network(cli):
    done = cli("profile", "lenet5-handwritten", "--untrained", "--against", "lenet5", "--threads", 1, "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["agreement"] < 1e-5
    assert found["against"]["target"] == "lenet5"
    assert [(entry["baseline"], entry["candidate"]) for entry in found["comparisons"]] == [
        ("lenet5 on torch", "lenet5-handwritten on torch"),
        ("lenet5 on onnxruntime", "lenet5-handwritten on onnxruntime"),
    ]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["lenet5"], "no checkpoint"),
        (["lenet6", "--untrained"], "lenet5"),
        (["lenet5", "--untrained", "--input-shape", "1x16x16"], "at layer 'conv5'"),
        (["lenet5", "--untrained", "--input-shape", "3x32x32"], "at layer 'conv1'"),
        (["lenet5", "--untrained", "--against", "resnet18-cifar"], "takes 1x1x32x32"),
        (["lenet5", "--untrained", "--backends", "tensorflow"], "torch"),
        (["lenet5", "--untrained", "--backends", ","], "no backend"),
        (["lenet5", "--untrained", "--depth", "some"], "neither leaves nor a number"),
        (["lenet5", "--untrained", "--plot", "picture.doc"], "picture.doc"),
        (["lenet5", "--untrained", "--convention", "gmacs"], "macs"),
        (["nothing.onnx"], "nothing.onnx"),
    ],
)
def test_bad_input_is_one_line_and_status_2(cli, arguments, line):
    done = cli("profile", *arguments, "--no-latency")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert line in done.stderr


@pytest.mark.skipif(__import__("torch").cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("latency", ["--latency", "--no-latency"])
def test_a_device_that_is_not_there_is_status_3(cli, latency):
    done = cli("profile", "lenet5", "--untrained", "--device", "cuda", latency)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1


def test_a_damaged_file_is_one_line(cli, workdir):
    (workdir / "bad.onnx").write_bytes(b"\x08\x07 not an ONNX file")
    done = cli("profile", "bad.onnx", "--no-latency")
    assert done.exit_code == 2
    assert "bad.onnx" in done.stderr
    assert done.stderr.count("\n") == 1


def test_depth(cli):
    done = cli("profile", "resnet18", "--untrained", "--no-latency", "--depth", "1", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["path"] for row in rows] == [
        "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool", "flatten", "fc", "total",
    ]  # fmt: skip
    done = cli("profile", "resnet18", "--untrained", "--no-latency", "--depth", "0", "--format", "csv")
    assert len(done.stdout.splitlines()) == 3
