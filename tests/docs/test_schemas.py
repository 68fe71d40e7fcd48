"""The JSON of every command is what its schema in `docs/schemas/` says: every key of it is documented, and of the type it has."""

from __future__ import annotations

import json
from functools import partial

import pytest
import schemas

from deploykit import plugins

jsonschema = pytest.importorskip("jsonschema")

FILES = {
    "contract",
    "checkpoint",
    "predict-on-ray",
}  # what lies in files, or comes with an option; the others are named after commands


def test_every_command_has_a_schema():
    assert set(schemas.NAMES) - FILES == set(plugins.names("deploykit.cli")), "docs/schemas/ and docs/reference/json.md"


@pytest.mark.parametrize("name", schemas.NAMES)
def test_a_schema_is_one_and_every_key_has_its_meaning(name):
    schema = schemas.load(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    for key, inner in _keys(schema):
        explained = "description" in inner or inner.get("type") == "object" or inner.get("type") == "array"
        assert explained, f"{name}: {key} has no description"


def _keys(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("properties"), dict):
            yield from schema["properties"].items()
        for inner in schema.values():
            yield from _keys(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _keys(inner)


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_schema_is_on_a_page(name):
    page = {"contract": "contract.md", "checkpoint": "checkpoint.md"}.get(name, "json.md")
    text = (schemas.FOLDER.parent / "reference" / page).read_text()
    assert f"```{{json-schema}} {name}\n" in text
    assert f"(../schemas/{name}.json)" in text


@pytest.mark.parametrize("kind", ["architectures", "datasets", "backends", "formats"])
def test_lists(cli, kind):
    schemas.validate("list", json.loads(cli("list", kind, "--format", "json").stdout))


def test_doctor(cli):
    schemas.validate("doctor", json.loads(cli("doctor", "--format", "json").stdout))


def test_train(trained, cli):
    schemas.validate("train", json.loads(cli("train", "my-linear", "--epochs", "1", "--limit", "100", "--format", "json").stdout))


def test_predict(exported, digit_files, cli, tmp_path):
    done = cli("predict", exported, digit_files[0][0], tmp_path / "none.png", "--format", "json")
    schemas.validate("predict", json.loads(done.stdout))


@pytest.mark.parametrize("resumed", [0, 300])
def test_predict_on_ray(resumed):
    from deploykit import reports
    from deploykit.cluster.result import ClusterPrediction
    from deploykit.views.cluster import report

    found = report(ClusterPrediction("m.onnx", "out", 300, 1, 5, resumed, 2.5 if resumed == 0 else 0.0, 2, 1))
    schemas.validate("predict-on-ray", json.loads(reports.render(found, "json")))
    assert ("answered before" in reports.render(found, "table")) == bool(resumed)


def test_simplify(exported, cli):
    schemas.validate("simplify", json.loads(cli("simplify", exported, "--out", "simple.onnx", "--format", "json").stdout))


def test_package(exported, cli):
    schemas.validate("package", json.loads(cli("package", exported, "--for", "kserve", "--format", "json").stdout))


def test_validate(exported, cli):
    same = json.loads(cli("validate", exported, "--format", "json").stdout)
    different = json.loads(cli("validate", exported, "--against", "lenet5", "--untrained", "--format", "json").stdout)
    assert (same["verdict"], different["verdict"]) == ("same", "different")
    schemas.validate("validate", same)
    schemas.validate("validate", different)


def test_the_two_files(trained, exported):
    import onnx
    from safetensors import safe_open

    with safe_open(trained / "model.safetensors", framework="numpy") as file:
        schemas.validate("checkpoint", json.loads(file.metadata()["deploykit"]))
    model = onnx.load(exported, load_external_data=False)
    schemas.validate("contract", json.loads(next(entry.value for entry in model.metadata_props if entry.key == "deploykit")))


@pytest.mark.slow
def test_demo_and_with_it_train_export_and_profile(cli, monkeypatch):
    """One document holds those of four commands, with measured latencies."""
    from deploykit import demonstration

    monkeypatch.setattr(demonstration, "train", partial(demonstration.train, epochs=1, limit=200))
    found = cli("demo", "here", "--format", "json")
    schemas.validate("demo", json.loads(found.stdout))


def test_a_key_that_no_schema_knows_is_seen():
    entry = {"name": "a", "summary": "b"}
    schemas.validate("list", [entry])
    with pytest.raises(jsonschema.ValidationError):
        schemas.validate("list", [{**entry, "more": 1}])
