"""A packaged repository: what its configuration says, parsed by Triton's own messages where they are, and that it can be served."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from serving_files import CPU, ONNX_TYPES, digits, doubling, identity, two_by_two
from small_models import build

from deploykit.errors import InputError, UnknownName
from deploykit.runtime import Predictor
from deploykit.serving.models import Models
from deploykit.serving.packaging import package
from deploykit.serving.repository import find


def save(path, model):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def parsed():
    """The text of a config.pbtxt -> its message, in our own reading of Triton's."""
    pytest.importorskip("google.protobuf")
    from google.protobuf import text_format

    from deploykit.serving.grpc_messages import message

    return lambda path: text_format.Parse(path.read_text(), message("ModelConfig")())


def test_the_configuration_is_what_the_contract_says(tmp_path, parsed):
    source = tmp_path / "source"
    save(source / "digits/1/model.onnx", digits())
    save(source / "digits/3/model.onnx", digits())
    result = package(source, out=tmp_path / "out", max_batch_size=16, max_queue_delay_us=250, instances=2)
    (model,) = result.models
    assert {str(file.relative_to(tmp_path / "out")) for file in model.files} == {
        "digits/config.pbtxt", "digits/labels.txt", "digits/1/model.onnx", "digits/3/model.onnx",
    }  # fmt: skip
    config = parsed(tmp_path / "out/digits/config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", 16)
    assert (config.input[0].name, config.input[0].data_type, list(config.input[0].dims)) == ("input", 11, [1, 8, 8])
    assert (config.output[0].name, list(config.output[0].dims), config.output[0].label_filename) == ("logits", [10], "labels.txt")
    assert config.dynamic_batching.max_queue_delay_microseconds == 250
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (2, 0)
    assert [warm.batch_size for warm in config.model_warmup] == [1, 16]
    assert list(config.model_warmup[0].inputs["input"].dims) == [1, 8, 8]
    assert (tmp_path / "out/digits/labels.txt").read_text().split() == list("0123456789")
    assert (tmp_path / "out/digits/3/model.onnx").read_bytes() == (source / "digits/3/model.onnx").read_bytes()


@pytest.mark.parametrize("datatype", ONNX_TYPES)
def test_every_datatype_has_its_name(tmp_path, parsed, datatype):
    from deploykit.serving.grpc_messages import ENUMS

    package(save(tmp_path / "m.onnx", identity(ONNX_TYPES[datatype], ("n",))), out=tmp_path / "out")
    config = parsed(tmp_path / "out/m/config.pbtxt")
    assert ENUMS["DataType"][config.input[0].data_type].removeprefix("TYPE_").replace("STRING", "BYTES") == datatype
    assert (list(config.input[0].dims), config.input[0].HasField("reshape")) == ([1], True)  # a scalar for each row
    assert len(config.model_warmup) == (0 if datatype == "BYTES" else 2)


def test_without_rows_shapes_are_whole(tmp_path, parsed):
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    softmax = build(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 2])],
    )
    result = package(save(tmp_path / "mixing.onnx", softmax), out=tmp_path / "out")
    assert "together as alone" in result.models[0].note
    config = parsed(tmp_path / "out/mixing/config.pbtxt")
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [-1, 2])
    assert not config.HasField("dynamic_batching")
    assert list(config.model_warmup[0].inputs["x"].dims) == [1, 2]
    package(save(tmp_path / "pair.onnx", two_by_two()), out=tmp_path / "out", max_batch_size=0)
    config = parsed(tmp_path / "out/pair/config.pbtxt")
    assert (config.max_batch_size, [list(tensor.dims) for tensor in config.input]) == (0, [[-1, 3], [-1, 3]])


def test_the_repository_is_one_that_this_server_serves(tmp_path):
    for name, model in (("digits", digits()), ("pair", two_by_two())):
        save(tmp_path / f"source/{name}/model.onnx", model)
    package(tmp_path / "source", out=tmp_path / "out")
    models = Models(find([tmp_path / "out"]), CPU)
    models.load_all()
    assert models.names() == ["digits", "pair"]
    models.close()


def test_kserve(tmp_path):
    result = package(save(tmp_path / "My_Net.onnx", digits()), kind="kserve", out=tmp_path / "out", storage="s3://bucket/models")
    text = result.manifests[0].read_text()
    found = read_yaml(text)
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert found["metadata"]["name"] == "my-net"
    assert found["metadata"]["annotations"]["deploykit/verdict"] == "same"
    assert found["spec"]["predictor"]["model"]["storageUri"] == "s3://bucket/models"
    assert found["spec"]["predictor"]["model"]["modelFormat"]["name"] == "onnx"
    assert found["spec"]["predictor"]["model"]["protocolVersion"] == "v2"
    if importlib.util.find_spec("yaml"):
        import yaml

        assert yaml.safe_load(text) == found
    with pytest.raises(InputError, match="cannot read models from"):
        package(tmp_path / "My_Net.onnx", kind="kserve", out=tmp_path / "out", storage="models")


def test_kserves_own_schema_has_every_field_of_the_manifest(tmp_path):
    where = os.environ.get("KSERVE_CRD")
    if not where:
        pytest.skip("KSERVE_CRD does not name KServe's serving.kserve.io_inferenceservices.yaml")
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    definition = yaml.safe_load(Path(where).read_text())
    version = next(each for each in definition["spec"]["versions"] if each["name"] == "v1beta1")
    schema = version["schema"]["openAPIV3Schema"]
    schema["properties"]["metadata"] = {"type": "object"}  # Kubernetes checks that itself
    checker = jsonschema.Draft4Validator(closed(schema))
    result = package(save(tmp_path / "net.onnx", digits()), kind="kserve", out=tmp_path / "out", storage="s3://bucket/models")
    document = yaml.safe_load(result.manifests[0].read_text())
    assert [error.message for error in checker.iter_errors(document)] == []
    document["spec"]["predictor"]["model"]["nonsense"] = 1
    assert ["nonsense" in error.message for error in checker.iter_errors(document)] == [True]


def closed(schema):
    """A schema in which an object has the fields that it names and no others: Kubernetes drops others without a word."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
    # A field may be called "properties" or "type" too: then it is no schema.
    is_object = isinstance(schema.get("properties"), dict) and schema.get("type") == "object"
    if is_object and not schema.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def read_yaml(text):
    """The small part of YAML that the manifest uses."""
    root: dict = {}
    stack = [(-1, root)]
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        key, _, value = line.strip().partition(": ") if not line.endswith(":") else (line.strip()[:-1], "", "")
        key = json.loads(key) if key.startswith('"') else key
        while stack[-1][0] >= depth:
            stack.pop()
        stack[-1][1][key] = json.loads(value) if value else {}
        if not value:
            stack.append((depth, stack[-1][1][key]))
    return root


def test_what_is_not_packaged(tmp_path):
    rejected = save(tmp_path / "rejected.onnx", digits("different"))
    with pytest.raises(InputError, match="--allow-rejected"):
        package(rejected, out=tmp_path / "out")
    assert package(rejected, out=tmp_path / "out", allow_rejected=True).models
    with pytest.raises(UnknownName):
        package(rejected, kind="torchserve")
    with pytest.raises(InputError, match="bfloat16"):
        package(save(tmp_path / "b.onnx", identity(ONNX_TYPES["BF16"])), out=tmp_path / "out", python_backend=True)


def test_models_that_would_be_written_over_each_other_are_refused_before_anything_is_written(tmp_path):
    for name in ("a", "a_python", "Net", "net", "x_y", "x-y"):
        save(tmp_path / f"source/{name}.onnx", doubling())
    for names, options, said in (
        (
            ["a", "a_python"],
            {"python_backend": True},
            "the models 'a' and 'a_python' would have one folder, a_python; give one of them another --name",
        ),
        (["Net", "net"], {"kind": "kserve"}, "the models 'Net' and 'net' would have one InferenceService, net"),
        (["x_y", "x-y"], {"kind": "kserve"}, "the models 'x_y' and 'x-y' would have one InferenceService, x-y"),
    ):
        with pytest.raises(InputError, match=said):
            package([tmp_path / f"source/{name}.onnx" for name in names], out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
    given = [tmp_path / "source/a.onnx", tmp_path / "source/a_python.onnx"]
    assert len(package(given, out=tmp_path / "out", python_backend=True, names=["a", "b"]).models) == 4


class Tensor:
    """As triton_python_backend_utils has it."""

    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


@pytest.mark.parametrize("model", ["digits", "BYTES"])
def test_the_code_for_the_python_backend_answers_like_the_file(tmp_path, monkeypatch, parsed, model):
    """Run here with a stand-in for Triton's module: each request gets its own rows, a refused one spoils no other."""
    made = digits() if model == "digits" else identity(ONNX_TYPES["BYTES"])
    path = save(tmp_path / f"{model}.onnx", made)
    package(path, out=tmp_path / "out", python_backend=True)
    name = f"{model}_python"
    config = parsed(tmp_path / f"out/{name}/config.pbtxt")
    assert (config.name, config.backend, config.max_batch_size, config.instance_group[0].kind) == (name, "python", 32, 2)
    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor = Tensor
    utils.TritonError = lambda text: text
    utils.InferenceResponse = lambda output_tensors=None, error=None: (output_tensors, error)
    utils.get_input_tensor_by_name = lambda request, key: request[key]
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    code = {}
    exec((tmp_path / f"out/{name}/1/model.py").read_text(), code)
    backend = code["TritonPythonModel"]()
    backend.initialize({"model_repository": str(tmp_path / f"out/{name}"), "model_version": "1", "model_instance_kind": "CPU"})
    if model == "BYTES":
        texts = np.array([[b"a", "zw\u00f6lf".encode()]], object)
        ((outputs, error),) = backend.execute([{"x": Tensor("x", texts)}])
        assert error is None
        assert outputs[0].array.tolist() == texts.tolist()
        return
    images = np.random.default_rng(0).normal(size=(5, 1, 8, 8)).astype(np.float32)
    parts = [images[:2], images[2:3], np.zeros((1, 1, 7, 8), np.float32), images[3:]]
    answers = backend.execute([{"input": Tensor("input", part)} for part in parts])
    with Predictor(path, "cpu") as predictor:
        for part, (outputs, error) in zip(parts, answers, strict=True):
            if part.shape[2] == 7:
                assert outputs is None
                assert error
            else:
                np.testing.assert_allclose(outputs[0].array, predictor.run(part), rtol=1e-5, atol=1e-6)


def test_tritons_own_messages_read_the_configuration(tmp_path):
    if importlib.util.find_spec("tritonclient") is None or importlib.util.find_spec("google.protobuf") is None:
        pytest.skip("tritonclient is not installed here")
    save(tmp_path / "source/digits/model.onnx", digits())
    save(tmp_path / "source/doubling/model.onnx", doubling())
    package(tmp_path / "source", out=tmp_path / "out", python_backend=True)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from google.protobuf import text_format\n"
        "from tritonclient.grpc import model_config_pb2\n"
        "for path in sorted(Path(sys.argv[1]).glob('*/config.pbtxt')):\n"
        "    config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())\n"
        "    assert config.name == path.parent.name\n"
        "    print(config.name, config.backend, config.max_batch_size)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "digits onnxruntime 32", "digits_python python 32", "doubling onnxruntime 32", "doubling_python python 32",
    ]  # fmt: skip


def test_the_command(cli, tmp_path):
    path = save(tmp_path / "digits.onnx", digits())
    done = cli("package", path, "--out", "repository", "--format", "json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["for"], found["out"], found["models"][0]["max_batch_size"]) == ("triton", "repository", 32)
    assert "1 model in repository" in cli("package", path, "--out", "repository").stdout
    assert cli("package", tmp_path / "none.onnx").exit_code == 2
