"""A small web service around one predictor; needs `pip install starlette uvicorn`.

python examples/web_service.py trained/lenet5/model.onnx --port 8000
curl --data-binary @three.png http://127.0.0.1:8000/predict?top=3
"""

import argparse
import contextlib
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from deploykit.errors import InputError
from deploykit.runtime import Predictor

LARGEST = 20 << 20  # bytes of a request


def service(model: Predictor) -> Starlette:
    """POST an image file to /predict; GET / says what answers."""

    async def predict(request: Request) -> JSONResponse:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST:
                return JSONResponse({"error": f"the image is larger than {LARGEST} bytes"}, 413)
        top = request.query_params.get("top", "1")
        try:
            # A predictor may be shared by any number of threads; the event loop stays free.
            answer = await run_in_threadpool(model.predict, body, top=int(top) if top.isdecimal() else 0)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({key: value for key, value in answer.as_dict().items() if key in ("label", "score", "top")})

    async def about(_request: Request) -> JSONResponse:
        return JSONResponse({"model": model.name, "device": model.device, "note": model.device_note})

    @contextlib.asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        with model:
            yield

    return Starlette(routes=[Route("/", about), Route("/predict", predict, methods=["POST"])], lifespan=lifespan)


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Serve a deployed file over HTTP.")
    parser.add_argument("file")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    # Requests come when they like: threads that spin between them would only burn the cores.
    model = Predictor(arguments.file, arguments.device, spinning=False, warm_up=2)
    uvicorn.run(service(model), port=arguments.port, log_level="warning")


if __name__ == "__main__":
    main()
