"""Routes of the demo page."""

from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gateway.errors import RequestError
from gateway.node.administration import Administration

# The page is one file with its script inside, talks to the nodes and to nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def demo_routes(administration: Administration) -> list[Route]:
    """`/` is the page, `/demo/nodes` tells it where the nodes are."""
    page = files("gateway.demo").joinpath("chat.html").read_text("utf-8")

    async def chat(request: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    async def nodes(request: Request) -> Response:
        try:
            known, status = [{"name": info.name, "url": info.url} for info in await administration.nodes()], 200
        except RequestError:
            # Readiness and the log say why; the page goes on with the node that it came from.
            known, status = [], 503
        return Response(msgspec.json.encode({"nodes": known}), status, media_type="application/json")

    return [Route("/", chat), Route("/demo/nodes", nodes)]
