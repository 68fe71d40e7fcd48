from __future__ import annotations

import json
import sys
from dataclasses import FrozenInstanceError
from importlib import metadata
from pathlib import Path

import onnx
import onnxruntime
import pytest

from deploykit.errors import DeviceUnavailable, InputError
from deploykit.runtime import Predictor, cores, diagnosis, doctor
from deploykit.runtime import libraries as _libraries
from deploykit.runtime.diagnosis import require
from deploykit.runtime.identity import IDENTITY_MODEL

CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def found() -> diagnosis.Diagnosis:
    return doctor()


def test_the_hand_written_model_is_a_model() -> None:
    model = onnx.load_from_string(IDENTITY_MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Identity"]
    assert model.SerializeToString() == IDENTITY_MODEL


def test_the_cpu_works_and_every_no_has_a_reason(found: diagnosis.Diagnosis) -> None:
    local = [name for name in onnxruntime.get_available_providers() if name not in diagnosis._REMOTE]
    assert [p.name for p in found.providers] == local
    assert found.usable("CPUExecutionProvider")
    for provider in found.providers:
        assert provider.usable == (provider.reason == "")
    assert 1 <= found.threads <= found.cores
    assert found.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert list(found.document()) >= ["advice"]
    json.dumps(found.document(), allow_nan=False)
    with pytest.raises(FrozenInstanceError):
        found.cores = 3  # type: ignore[misc]


def test_it_says_what_the_predictor_says(found: diagnosis.Diagnosis, digits_file: Path) -> None:
    if found.usable(CUDA):
        Predictor(digits_file, device="cuda").close()
        require(found, "cuda")
    else:
        with pytest.raises(DeviceUnavailable) as refused:
            Predictor(digits_file, device="cuda")
        assert all(library in str(refused.value) for library in found.missing_libraries)
        with pytest.raises(DeviceUnavailable, match="advice"):
            require(found, "cuda")
    require(found, "cpu")
    require(found, "auto")
    with pytest.raises(InputError):
        require(found, "tpu")


def test_every_missing_library_is_in_the_advice(found: diagnosis.Diagnosis) -> None:
    for library in found.missing_libraries:
        assert any(library in line for line in found.advice)


@pytest.mark.skipif(sys.platform != "linux", reason="reads ELF files")
def test_what_a_library_needs_is_read_from_its_file(tmp_path: Path) -> None:
    if CUDA in onnxruntime.get_available_providers():
        needed = _libraries.needed(CUDA)
        assert _libraries.DRIVER in needed
        assert any(name.startswith("libcudart.so") for name in needed)
        assert all(".so" in name for name in needed)
    assert _libraries.needed("NoSuchExecutionProvider") == ()
    import _ctypes

    for module in (sys.executable, _ctypes.__file__):
        assert "libc.so.6" in _libraries._needed_of(Path(module).resolve())
    whole = Path(_ctypes.__file__).read_bytes()
    for index, data in enumerate(
        (b"", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01" + b"\0" * 100, whole[:200], whole[:4096], b"MZ" * 50)
    ):
        broken = tmp_path / f"{index}.so"
        broken.write_bytes(data)
        with pytest.raises((ValueError, KeyError, StopIteration)):
            _libraries._needed_of(broken)


@pytest.mark.parametrize(
    ("cuda", "library", "package"),
    [
        ("13", "libcurand.so.10", "nvidia-curand"),
        ("12", "libcurand.so.10", "nvidia-curand-cu12"),
        ("13", "libcublasLt.so.13", "nvidia-cublas"),
        ("13", "libcudart.so.13", "nvidia-cuda-runtime"),
        ("13", "libcudnn.so.9", "nvidia-cudnn-cu13"),
        ("12", "libcudnn.so.9", "nvidia-cudnn-cu12"),
        ("13", "libnvinfer.so.10", "tensorrt-cu13"),
        ("13", "libcuda.so.1", None),
        ("13", "libm.so.6", None),
    ],
)
def test_the_package_that_brings_a_library(monkeypatch: pytest.MonkeyPatch, cuda: str, library: str, package: str | None) -> None:
    monkeypatch.setattr(_libraries, "cuda_major", lambda: cuda)
    assert _libraries.package_of(library) == package


def distribution(folder: Path, name: str, module: bool) -> None:
    home = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    home.mkdir(parents=True)
    (home / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (home / "RECORD").write_text("onnxruntime/__init__.py,,\n" if module else "other/__init__.py,,\n")


def test_both_wheels_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    distribution(tmp_path, "onnxruntime", module=True)
    distribution(tmp_path, "onnxruntime-gpu", module=True)
    distribution(tmp_path, "onnxruntime-extensions", module=False)
    monkeypatch.setattr(metadata, "distributions", lambda: metadata.Distribution.discover(path=[str(tmp_path)]))
    assert diagnosis.installed_wheels() == ("onnxruntime", "onnxruntime-gpu")
    (advice,) = diagnosis._wheel_advice(diagnosis.installed_wheels())
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in advice
    assert diagnosis._wheel_advice(("onnxruntime",)) == []


def test_here_only_one_wheel_is_installed() -> None:
    assert len(diagnosis.installed_wheels()) == 1


def test_cuda_majors_that_differ_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    advice = diagnosis._cuda_advice((), {"onnxruntime CUDA": "13.0", "torch CUDA": "12.8"})
    assert len(advice) == 1
    assert "CUDA 13" in advice[0]
    assert "CUDA 12" in advice[0]
    assert diagnosis._cuda_advice((), {"onnxruntime CUDA": "13.0", "torch CUDA": "13.2"}) == []


def test_the_cpu_wheel_is_told_apart(monkeypatch: pytest.MonkeyPatch, digits_file: Path) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceUnavailable, match="no CUDA provider"):
        Predictor(digits_file, device="cuda")
    found = doctor()
    assert "pip install onnxruntime-gpu" in found.advice[0]
    with pytest.raises(DeviceUnavailable, match="no CUDA provider"):
        require(found, "cuda")


def test_torch_is_looked_at_but_not_imported(run_python) -> None:
    code = "import sys, deploykit; d = deploykit.doctor(); print('torch' in sys.modules, d.versions.get('torch CUDA'))"
    out = run_python(code)
    loaded, version = out.split()
    assert loaded == "False"
    try:
        text = metadata.distribution("torch").locate_file("torch/version.py").read_text()  # type: ignore[attr-defined]
    except metadata.PackageNotFoundError:
        return
    assert version == "None" or f"'{version}'" in text


# --- cores ---


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "garbage"}, None),
        ({"cpu.max": "1 0"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4.0),
        ({}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert cores._quota(tmp_path) == quota


def test_usable_cores() -> None:
    assert cores.Cores(16, 16, None).usable == 16
    assert cores.Cores(16, 4, None).usable == 4
    assert cores.Cores(16, 16, 2.5).usable == 2
    assert cores.Cores(16, 16, 0.3).usable == 1
    assert cores.Cores(16, 4, 8.0).usable == 4
    assert cores.Cores(16, 16, 2.5).limited
    assert not cores.Cores(16, 4, 8.0).limited


def test_a_limited_process_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "cores", lambda: cores.Cores(16, 16, 2.0))
    (line,) = diagnosis._core_advice()
    assert "2 cores' worth of time of 16 cores" in line
    monkeypatch.setattr(diagnosis, "cores", lambda: cores.Cores(16, 16, None))
    assert diagnosis._core_advice() == []


def test_a_provider_that_leaves_all_work_to_the_cpu_is_not_usable() -> None:
    """The CPU wheel lists one that calls services elsewhere: its sessions are made, and compute nothing by themselves."""
    name = "AzureExecutionProvider"
    if name not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no provider of that kind")
    assert not diagnosis.probe(name).usable


def test_the_command(run_command, tmp_path: Path, found: diagnosis.Diagnosis) -> None:
    done = run_command("doctor", "--format", "json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(json.dumps(found.document()))
    table = run_command("doctor", cwd=tmp_path)
    assert table.returncode == 0
    assert "CPUExecutionProvider" in table.stdout
    asked = run_command("doctor", "--device", "cuda", cwd=tmp_path)
    assert asked.returncode == (0 if found.usable(CUDA) else 3)
    assert asked.stdout == table.stdout
    assert run_command("doctor", "--device", "tpu", cwd=tmp_path).returncode == 2


def test_a_provider_that_asks_a_server_is_no_matter_of_this_machine(monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["AzureExecutionProvider", "CPUExecutionProvider"])
    assert [provider.name for provider in doctor().providers] == ["CPUExecutionProvider"]


def test_a_provider_whose_session_cannot_be_made_is_unusable_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> object:
        raise RuntimeError("no such device")

    monkeypatch.setattr(diagnosis, "missing_libraries", lambda provider: ())
    monkeypatch.setattr(diagnosis, "make_session", refuse)
    found = diagnosis.probe("DmlExecutionProvider")
    assert (found.name, found.usable) == ("DmlExecutionProvider", False)
    assert "no such device" in found.reason


def test_without_nvidias_driver_the_advice_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    (advice,) = diagnosis._cuda_advice((_libraries.DRIVER,), {})
    assert "install the driver" in advice
    assert "--device cpu" in advice
    (advice,) = diagnosis._cuda_advice(("libnowhere.so.1",), {})
    assert advice == "for CUDA: install what brings libnowhere.so.1"
    assert diagnosis._cuda_advice((), {}) == []
