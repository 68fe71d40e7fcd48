"""The page, the metrics and the OpenAPI document."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from small_models import LABELS

DRIVER = """
const told = (name, value) => document.body.setAttribute('data-' + name, String(value));
const errors = [];
addEventListener('error', (e) => errors.push(e.message));
addEventListener('securitypolicyviolation', (e) => errors.push(e.violatedDirective));
const until = async (what) => { for (let i = 0; i < 400; i++) { const found = what(); if (found) return found; await new Promise((r) => setTimeout(r, 20)); } };
const article = await until(() => document.querySelector('article[data-model=digits]'));
const figure = (name) => article.querySelector(`[data-figure="${name}"]`)?.textContent;
told('before', figure('requests'));
told('verdict', article.querySelector('.verdict').textContent);
told('about', article.querySelector('.about').textContent);
const file = new File([await (await fetch('/digit.png')).blob()], 'digit.png', { type: 'image/png' });
const transfer = new DataTransfer();
transfer.items.add(file);
article.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
await until(() => article.querySelector('.answer .row'));
told('labels', [...article.querySelectorAll('.answer .row')].map((row) => row.firstChild.textContent).join(' '));
told('shares', [...article.querySelectorAll('.answer .row')].map((row) => row.lastChild.textContent).join(' '));
await until(() => figure('requests') !== document.body.dataset.before);
told('after', figure('requests'));
article.querySelector('.ask-drawn').click();
await until(() => Number(figure('requests')) >= Number(document.body.dataset.after) + 1);
told('drawn', figure('requests'));
const text = new DataTransfer();
text.items.add(new File(['no image'], 'x.png', { type: 'image/png' }));
article.querySelector('.drop').dispatchEvent(new DragEvent('drop', { dataTransfer: text, bubbles: true }));
told('refused', (await until(() => article.querySelector('.answer .error'))).textContent);
told('overflow', document.documentElement.scrollWidth - innerWidth);
told('articles', document.querySelectorAll('article').length);
told('errors', errors.join('|'));
told('done', 'yes');
"""


@pytest.fixture
def address(service, digit_png):
    """A server in a thread, with a page that also loads the driver."""
    import uvicorn
    from starlette.responses import Response
    from starlette.routing import Route

    from deploykit.serving import beside
    from deploykit.serving.app import application

    policy = {}

    def page(_request):
        html = (
            (beside._FOLDER / "index.html").read_text().replace("</html>", '<script type="module" src="driver.js"></script></html>')
        )
        return Response(html, media_type="text/html", headers=policy)

    more = [
        Route("/driven", page),
        Route("/driver.js", lambda _request: Response(DRIVER, media_type="text/javascript")),
        Route("/digit.png", lambda _request: Response(digit_png, media_type="image/png")),
    ]
    policy["Content-Security-Policy"] = beside._POLICY
    config = uvicorn.Config(application(service, [*beside.routes(service), *more]), log_config=None, lifespan="off", ws="none")
    server = uvicorn.Server(config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 420])
def test_dropping_an_image_shows_the_answer_and_the_counter_rises(browser, address, service, digit_png, tmp_path, width):
    expected = service.models.get("digits").predictor.predict(digit_png, top=5)
    done = subprocess.run(
        [*browser, "--headless", "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", "--dump-dom", f"{address}/driven"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    told = dict(re.findall(r'data-([\w-]+)="([^"]*)"', re.search(r"<body([^>]*)>", done.stdout)[1]))
    assert told.get("done") == "yes", (told, done.stderr[-500:])
    assert told["verdict"] == "proven the same network"
    assert "images, grey 8x8" in told["about"]
    assert told["labels"].split() == [candidate.label for candidate in expected.top]
    assert told["shares"].split()[0] == f"{expected.score * 100:.1f}"
    assert int(told["after"]) == int(told["before"]) + 1
    assert int(told["drawn"]) == int(told["after"]) + 1
    assert "image" in told["refused"]
    assert int(told["overflow"]) <= 0
    assert int(told["articles"]) >= 4
    assert told["errors"] == ""


def test_the_page_and_its_parts(client):
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {"page/style.css", "page/page.js", "openapi.json", "metrics"} == set(parts)
    for part in parts:
        assert client.get(f"/{part}").status_code == 200, part
    assert client.get("/page/other.js").status_code == 404
    found = {model["name"]: model for model in client.get("/page/models.json").json()["models"]}
    assert found["digits"]["verdict"] == "same"
    assert found["digits"]["takes_images"]
    assert found["digits"]["labels"] == list(LABELS)
    assert not found["pair"]["has_contract"]
    assert set(found["digits"]["live"]) >= {"requests", "mean_batch", "p50_ms", "p99_ms", "waiting", "refused"}


def test_metrics_count_what_happened(client, digit_png):
    def read():
        response = client.get("/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        lines = response.text.splitlines()
        assert all(re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"\\]*",?)*\})? -?[0-9.e+-]+', line) for line in lines)
        assert len({line for line in lines if line[0] != "#"}) == len([line for line in lines if line[0] != "#"])
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[0] != "#"}

    where = '{model="digits",version="2"}'
    before = read()
    image = BytesIO()
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(image, "png")
    assert client.post("/v2/models/digits/predict", files=[("a", image.getvalue()), ("b", digit_png)]).status_code == 200
    assert client.post("/v2/models/digits/infer", content=b"{").status_code == 400
    after = read()
    assert after[f"deploykit_rows_total{where}"] - before[f"deploykit_rows_total{where}"] == 2
    assert after[f"deploykit_executions_total{where}"] - before[f"deploykit_executions_total{where}"] == 1
    assert after[f"deploykit_request_seconds_count{where}"] - before[f"deploykit_request_seconds_count{where}"] == 1
    reason = '{model="digits",version="2",reason="invalid"}'
    assert after[f"deploykit_request_failure_total{reason}"] - before.get(f"deploykit_request_failure_total{reason}", 0) == 1
    infinite = '{model="digits",version="2",le="+Inf"}'
    assert after[f"deploykit_request_seconds_bucket{infinite}"] == after[f"deploykit_request_seconds_count{where}"]
    assert after["deploykit_ready"] == 1


def test_the_openapi_document_describes_the_routes_that_there_are(client):
    document = client.get("/openapi.json").json()
    described = {(verb.upper(), path) for path, item in document["paths"].items() for verb in item if verb != "parameters"}
    routes = {
        (method, route.path)
        for route in client.app.routes
        for method in route.methods
        if method != "HEAD" and route.path not in ("/", "/openapi.json") and not route.path.startswith("/page")
    }
    assert described == routes
    names = [what["operationId"] for item in document["paths"].values() for verb, what in item.items() if verb != "parameters"]
    assert len(set(names)) == len(names)
    jsonschema = pytest.importorskip("jsonschema")
    schemas = document["components"]["schemas"]
    for path, schema in (("/v2", "Server"), ("/v2/models/digits", "Model"), ("/v2/models/none", "Error")):
        jsonschema.validate(client.get(path).json(), {**schemas[schema], "components": {"schemas": schemas}})


def test_what_a_stranger_calls_its_labels_stays_text():
    """Labels come out of the file: they reach the page as JSON, and the page's code never makes HTML of text."""
    from deploykit.serving.beside import _FOLDER

    script = (_FOLDER / "page.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
