"""Small deployed files, and the service around them in this process."""

from __future__ import annotations

import importlib.util
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

MISSING = [name for name in ("starlette", "uvicorn", "python_multipart") if importlib.util.find_spec(name) is None]
# Without the extra `serve` only test_extra.py is left, which says so.
collect_ignore = [path.name for path in Path(__file__).parent.glob("test_*.py") if MISSING and path.name != "test_extra.py"]

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))  # pytest's importlib mode leaves helpers beside the tests unfound

from PIL import Image  # noqa: E402
from serving_files import CPU, ONNX_TYPES, digits, doubling, identity, two_by_two  # noqa: E402

from deploykit.serving.models import Models  # noqa: E402
from deploykit.serving.repository import find  # noqa: E402


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A folder of models: digits (versions 1 and 2), doubling, pair, and one identity for each datatype."""
    root = tmp_path_factory.mktemp("models")

    def save(model, name):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(model.SerializeToString())

    save(digits(), "digits/1/model.onnx")
    save(digits(), "digits/2/model.onnx")
    save(doubling(), "doubling/model.onnx")
    save(two_by_two(), "pair/model.onnx")
    for name, elem in ONNX_TYPES.items():
        save(identity(elem), f"{name}/model.onnx")
    return root


@pytest.fixture(scope="session")
def service(repository):
    from deploykit.serving.app import Service

    models = Models(find([repository]), CPU)
    models.load_all()
    service = Service(models, allow_reload=True)
    yield service
    service.close()


@pytest.fixture(scope="session")
def client(service):
    from starlette.testclient import TestClient

    from deploykit.serving import beside
    from deploykit.serving.app import application

    with TestClient(application(service, beside.routes(service))) as client:
        yield client


@pytest.fixture(scope="session")
def digit_png():
    """An image file of a digit's size."""
    pixels = np.random.default_rng(3).integers(0, 256, (8, 8)).astype(np.uint8)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()
