"""What stands beside the protocol: the page at /, what it asks for, the metrics and the OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from deploykit.serving import description, metrics, openapi
from deploykit.serving.app import Service, guarded, said

_FOLDER = Path(__file__).parent / "page"
_KINDS = {"style.css": "text/css", "page.js": "text/javascript"}
# Nothing from elsewhere, and nothing inline: whatever a file calls its labels stays text.
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def routes(service: Service) -> list[Route]:
    """The routes, for `application`."""

    async def page(_request: Request) -> Response:
        return _file("index.html", "text/html")

    async def part(request: Request) -> Response:
        name = request.scope["path"].rpartition("/")[2]
        return _file(name, _KINDS[name])

    async def models(_request: Request) -> Response:
        found = []
        for name in service.models.names():
            if service.models.model(name).versions:
                served = service.models.model(name).newest
                found.append({**description.contract(served), "loaded_at": served.loaded_at, "live": description.live(served)})
        return said({"ready": service.ready, "models": found})

    async def measured(_request: Request) -> Response:
        return Response(metrics.text(service), headers={"Content-Type": metrics.CONTENT_TYPE})

    async def described(_request: Request) -> Response:
        return said(openapi.document())

    return [
        Route("/", guarded(page)),
        *(Route(f"/page/{name}", guarded(part)) for name in _KINDS),
        Route("/page/models.json", guarded(models)),
        Route("/metrics", guarded(measured)),
        Route("/openapi.json", guarded(described)),
    ]


def _file(name: str, kind: str) -> Response:
    response = Response((_FOLDER / name).read_bytes(), media_type=kind)
    response.headers["Content-Security-Policy"] = _POLICY
    return response
