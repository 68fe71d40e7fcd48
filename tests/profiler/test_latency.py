"""Timing in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from deploykit import exporter, onnx_file
from deploykit.errors import CheckpointError, DeviceUnavailable, InputError, ModelFileError
from deploykit.network import target
from deploykit.profiler import Comparison, Subject, compare_latency
from deploykit.profiler.benchmark import latency, process
from deploykit.profiler.benchmark.process import TimedProcess
from deploykit.profiler.subjects import random_arrays

LENET = Subject("lenet5", untrained=True)


@pytest.fixture(scope="module")
def lenet_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("onnx") / "lenet5.onnx"
    onnx_file.write(exporter.to_onnx(target.resolve("lenet5", untrained=True)), file)
    return file


def test_onnxruntime_against_pytorch(lenet_file):
    found = compare_latency(LENET, str(lenet_file), seconds=1, threads=1)
    torch_side, onnx_side = found.latencies
    assert (torch_side.backend, onnx_side.backend) == ("torch", "onnxruntime")
    assert torch_side.threads == onnx_side.threads == 1
    for entry in found.latencies:
        assert 0 < entry.median_ms <= entry.p95_ms <= entry.p99_ms
        assert entry.throughput == pytest.approx(1000 / entry.median_ms)
        assert len(entry.samples) >= 10
        assert entry.cold_start_ms > 0
        assert 4 * 61_706 <= entry.weight_bytes < 4 * 62_000  # a graph has a few sizes besides
    # the process that runs the file does not hold PyTorch
    assert onnx_side.peak_memory_bytes < 0.5 * torch_side.peak_memory_bytes
    comparison = found.comparisons[0]
    assert comparison.low <= comparison.ratio <= comparison.high
    # the same inputs and weights, so the same answers
    np.testing.assert_allclose(found.outputs[0][0], found.outputs[1][0], rtol=1e-4, atol=1e-5)
    assert set(found.document()) == {"latency", "comparisons", "conditions"}
    assert {"cpu", "cores", "python", "torch"} <= set(found.conditions)


def test_two_networks_on_one_backend_share_a_process_but_not_their_memory():
    """Two copies of a network in one process differ far less than two processes do."""
    arrays = random_arrays(Subject("vgg11-small", untrained=True), 1)
    with TimedProcess("torch", arrays) as process:
        first = process.open(Subject("vgg11-small", untrained=True), "cpu", 1)
        second = process.open(Subject("vgg11-small", untrained=True), "cpu", 1)
    assert first.process is second.process
    assert second.peak_memory == pytest.approx(first.peak_memory, rel=0.25)
    np.testing.assert_array_equal(first.outputs[0], second.outputs[0])
    assert process._process.returncode == 0  # it ended with its owner


def test_a_batch_reaches_both_sides(lenet_file):
    with TimedProcess("onnxruntime", random_arrays(LENET, 5)) as process:
        timed = process.open(Subject(str(lenet_file)), "cpu", 1)
        assert timed.outputs[0].shape == (5, 10)
        times = timed.time(7)
        assert len(times) == 7
        assert all(t > 0 for t in times)


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        (Subject("lenet5"), CheckpointError),
        (Subject("missing.onnx"), ModelFileError),
        (Subject("lenet5", "onnxruntime", untrained=True), InputError),
    ],
)
def test_what_goes_wrong_in_the_other_process_arrives_as_what_it_is(subject, error, workdir):
    with TimedProcess(subject.engine, [np.zeros((1, 1, 32, 32), np.float32)]) as process, pytest.raises(error):
        process.open(subject, "cpu", 1)


@pytest.mark.skipif(__import__("torch").cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    with pytest.raises(DeviceUnavailable, match="cuda"):
        compare_latency(LENET, LENET, device="cuda")


def test_a_process_that_dies_is_reported():
    with TimedProcess("torch", random_arrays(LENET, 1)) as process:
        timed = process.open(LENET, "cpu", 1)
        os.kill(process._process.pid, signal.SIGKILL)
        with pytest.raises(InputError, match=r"died \(signal 9\)"):
            timed.time(1)


SHADOWS = ("random", "numpy", "torch", "deploykit")


@pytest.fixture
def shadowed(workdir):
    """A current folder with files that are called as modules are, and a network of the user's own."""
    for name in SHADOWS:
        (workdir / f"{name}.py").write_text(f"print('{name}.py was run')\nraise SystemExit('{name}.py was run')\n")
    (workdir / "my_own_net.py").write_text(
        "import torch\n"
        "def net():\n"
        "    module = torch.nn.Linear(4, 2)\n"
        "    module.example_inputs = [torch.zeros(1, 4)]\n"
        "    return module\n"
    )
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("target", ["lenet5", "my_own_net:net"])
def test_files_of_the_current_folder_are_not_imported_by_the_timing_child(shadowed, target):
    """As the console script does it: the parent has no entry for the current folder, and the child must have none either."""
    code = f"import deploykit; print(deploykit.profile({target!r}, untrained=True, threads=1, seconds=0.1).document()['latency'])"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "was run" not in done.stdout + done.stderr
    assert "median_ms" in done.stdout


@pytest.mark.parametrize("subject", [LENET, Subject("my_own_net:net", untrained=True)])
def test_a_parent_that_imports_from_the_current_folder_does_not_hand_that_on(shadowed, monkeypatch, subject):
    """`python -m deploykit` does, and so does a notebook; a network that the user named in this folder is found all the same."""
    arrays = [np.zeros((1, 1, 32, 32) if subject is LENET else (1, 4), np.float32)]
    monkeypatch.setattr(sys, "path", [str(shadowed), "", ".", *sys.path])
    with TimedProcess("torch", arrays) as started:
        assert started.open(subject, "cpu", 1).outputs[0].shape[0] == 1


def test_the_current_folder_stays_where_the_user_named_it(workdir, monkeypatch):
    other = workdir / "other"
    other.mkdir()
    monkeypatch.setattr(sys, "path", ["", ".", str(workdir), str(other), "/lib"])
    monkeypatch.setenv("PYTHONPATH", "")
    assert process.import_path() == [str(other), "/lib"]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", str(other)]))
    assert process.import_path() == [str(other), "/lib"]
    monkeypatch.setenv("PYTHONPATH", str(workdir))
    assert str(workdir) in process.import_path()
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(process, "_ROOT", workdir)  # a checkout that nobody installed, run from its own folder
    assert str(workdir) in process.import_path()


def test_what_the_network_prints_does_not_disturb_the_conversation(tmp_path, monkeypatch):
    (tmp_path / "chatty.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    example_inputs = [torch.zeros(1, 4)]\n"
        "    def forward(self, x):\n"
        "        print('hello')\n"
        "        return super().forward(x)\n"
        "def net():\n"
        "    return Net(4, 2)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # which making the inputs puts the current folder on
    subject = Subject("chatty:net", untrained=True)
    with TimedProcess("torch", random_arrays(subject, 1)) as process:
        assert process.open(subject, "cpu", 1).outputs[0].shape == (1, 2)
    sys.modules.pop("chatty", None)


def blocks(*medians):
    return [[value] * 3 for value in medians]


def test_a_machine_that_slows_down_hits_both_alike():
    """A B B A: a steady drift cancels within every round."""
    drift = np.linspace(1, 2, 48)
    a = blocks(*drift[[i for i in range(48) if i % 4 in (0, 3)]])
    b = blocks(*drift[[i for i in range(48) if i % 4 in (1, 2)]])
    found = latency.compare_blocks("a", "b", a, b, latency.STDEV_WITHIN_PROCESS)
    assert found.verdict == "no difference"
    assert found.ratio == pytest.approx(1, abs=0.002)


class Recorded:
    """A stand-in for `Timed` that writes down when it was run."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def time(self, runs):
        self.log.append(self.name)
        return [float(len(self.log))] * runs


@pytest.mark.parametrize(
    ("names", "rounds"),
    [("AB", ["ABBA", "BAAB", "ABBA", "BAAB"]), ("ABC", ["ABCCBA", "CBAABC", "ABCCBA"]), ("A", ["AA", "AA"])],
)
def test_rounds_alternate(names, rounds):
    """A B B A, then B A A B: over two rounds each engine runs as often after itself as after the other."""
    log = []
    timed, times = [Recorded(name, log) for name in names], [[] for _ in names]
    for number, expected in enumerate(rounds, 1):
        log.clear()
        latency._one_round(timed, 3, times)
        assert "".join(log) == expected
        assert [len(blocks) for blocks in times] == [2 * number] * len(names)
    assert times[0][0] == [1.0] * 3


@pytest.mark.parametrize(("factor", "verdict"), [(1.05, "slower"), (1 / 1.05, "faster"), (1.005, "no difference")])
def test_verdicts(factor, verdict):
    noise = np.random.default_rng(1).normal(1, 0.005, (2, 48))
    found = latency.compare_blocks("a", "b", blocks(*noise[0]), blocks(*(noise[1] * factor)), latency.STDEV_WITHIN_PROCESS)
    assert found.verdict == verdict
    assert found.low <= found.ratio <= found.high


def test_how_a_comparison_reads():
    assert (
        str(Comparison("torch", "onnxruntime", 1.81, 1.74, 1.88, "faster", 20))
        == "onnxruntime is 1.81x faster [1.74, 1.88] than torch"
    )
    assert str(Comparison("a", "b", 0.5, 0.4, 0.625, "slower", 20)) == "b is 2.00x slower [1.60, 2.50] than a"
    assert str(Comparison("a", "b", 1.0, 0.99, 1.01, "no difference", 20)) == "no difference between b and a [0.99, 1.01]"
    assert "vary too much to tell" in str(Comparison("a", "b", 1.0, 0.5, 2.0, "no difference", 12))


def test_on_a_machine_that_is_too_busy_fewer_rounds_must_do(monkeypatch):
    """Twelve rounds are wanted; where they would take for ever, six are enough, and time alone does not end the first ones."""
    monkeypatch.setattr(latency.time, "monotonic", lambda: 100.0)
    few, some = [[blocks(1)[0]] * 10] * 2, [[blocks(1)[0]] * 12] * 2
    assert not latency._enough(few, until=10, latest=20)
    assert latency._enough(some, until=10, latest=20)
    assert not latency._enough(some, until=10, latest=200)
