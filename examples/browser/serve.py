"""Draw a digit in the browser; the deployed file answers there, with its preprocessing inside. Needs npm for onnxruntime-web.

python examples/browser/serve.py
python examples/browser/serve.py --model masks.onnx     # a segmentation of one's own: choose an image, see what is where
"""

import argparse
import json
import shutil
import subprocess
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from deploykit.runtime import Predictor

HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[1] / "trained" / "lenet5" / "model.safetensors"
OWN = HERE / "build" / "model.onnx"
ORT = HERE / "node_modules" / "onnxruntime-web" / "dist"
KINDS = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript",
         ".wasm": "application/wasm", ".onnx": "application/octet-stream", ".json": "application/json"}  # fmt: skip
# Nothing from elsewhere; WebAssembly may be compiled.
POLICY = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' data:"


def built(model: Path) -> Path:
    """The file with its preprocessing inside, exported and proven unless it is there and newer than the checkpoint."""
    if model != OWN and model.is_file():
        return model
    if not model.is_file() or model.stat().st_mtime < CHECKPOINT.stat().st_mtime:
        from deploykit import export

        print("exporting lenet5 with its preprocessing ...", flush=True)
        verdict = export(str(CHECKPOINT), out=model, with_preprocessing=True).verdict
        if not verdict.same:
            raise SystemExit(f"verdict: {verdict.verdict}; run deploykit validate {model}")
    return model


def installed() -> None:
    """onnxruntime-web in node_modules, by npm, from the lock file."""
    if not (ORT / "ort.wasm.min.mjs").is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise SystemExit("this example needs npm, to install onnxruntime-web; install Node.js, then run it again")
        print("installing onnxruntime-web ...", flush=True)
        subprocess.run([npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)


def contents(model: Path) -> dict[str, bytes]:
    """Every path that the server knows, and what lies there; no other file can be asked for."""
    with Predictor(model, device="cpu") as predictor:
        contract = predictor.contract
    labels = list(contract.output.labels) if contract and contract.output.labels else []
    names = ("index.html", "style.css", "page.js", "segment.html", "segment.js", "preprocessing.js")
    page = {f"/{name}": (HERE / name).read_bytes() for name in names}
    first = "/segment.html" if contract and contract.output.task == "segmentation" else "/index.html"
    engine = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
    return {
        **page,
        "/": page[first],
        **{f"/ort/{name}": (ORT / name).read_bytes() for name in engine},
        "/model.onnx": model.read_bytes(),
        "/contract.json": json.dumps({"labels": labels, "contract": contract and contract.document()}).encode(),
    }


class Handler(BaseHTTPRequestHandler):
    """GET what `files` has, and nothing else."""

    def __init__(self, *args: object, files: dict[str, bytes]) -> None:
        self.files = files
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        """Answer one request."""
        path = self.path.partition("?")[0]
        body = self.files.get(path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Type", KINDS.get(Path(path).suffix, KINDS[".html"]))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing per request."""


def main() -> None:
    """Build what is missing, then serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets a phone in the same network in")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--model", type=Path, default=OWN)
    options = parser.parse_args()
    installed()
    files = contents(built(options.model))
    with ThreadingHTTPServer((options.host, options.port), partial(Handler, files=files)) as server:
        print(f"open http://{options.host}:{server.server_port}/ and draw (Ctrl-C ends it)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
