"""Routes of the demo page."""

from importlib.resources import files

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gateway.node.node import Node

# The page is one file with its script inside, talks to the nodes and to nothing else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def demo_routes(node: Node) -> list[Route]:
    """`/` is the page, `/demo/nodes` tells it where the nodes are."""
    page = files("gateway.demo").joinpath("chat.html").read_text()

    async def chat(request: Request) -> Response:
        return HTMLResponse(page, headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    async def nodes(request: Request) -> Response:
        known = [{"name": info.name, "url": info.url} for info in await node.nodes()]
        return Response(msgspec.json.encode({"nodes": known}), media_type="application/json")

    return [Route("/", chat), Route("/demo/nodes", nodes)]
