"""Routes of the demo page."""

import logging
import os
import signal
from collections.abc import Sequence
from importlib.resources import files

import msgspec
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from gateway.auth.origins import OriginPolicy
from gateway.config.settings import OriginSettings
from gateway.errors import RequestError
from gateway.node.administration import Administration

# A page is one file with its script inside, and talks to the nodes, which have other origins than the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' ws: wss: http: https:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_logger = logging.getLogger(__name__)


def demo_routes(administration: Administration, killed_from: Sequence[str] = ()) -> list[Route]:
    """`/` is the chat, `/demo/protocols` shows its channel through every protocol, `/demo/nodes` tells where the nodes
    are.

    `killed_from`: origins whose pages may kill this node with `POST /demo/kill`. Without any, there is no such path.
    """

    async def nodes(request: Request) -> Response:
        try:
            infos = await administration.nodes()
        except RequestError:
            # Readiness and the log say why; the page goes on with the node that it came from.
            infos, status = [], 503
        else:
            status = 200
        # A node that was just started again is known twice, until the lease of its predecessor ends.
        known = [{"name": name, "url": url} for name, url in dict.fromkeys((info.name, info.url) for info in infos)]
        answer = {"nodes": known, "kill": bool(killed_from)}
        return Response(msgspec.json.encode(answer), status, media_type="application/json")

    routes = [_page("/", "chat.html"), _page("/demo/protocols", "protocols.html"), Route("/demo/nodes", nodes)]
    if killed_from:
        routes.append(_kill_route(killed_from))
    return routes


def _page(path: str, name: str) -> Route:
    text = files("gateway.demo").joinpath(name).read_text("utf-8")

    async def page(request: Request) -> Response:
        return HTMLResponse(text, headers={"content-security-policy": CONTENT_SECURITY_POLICY})

    return Route(path, page)


def _kill_route(origins: Sequence[str]) -> Route:
    """The end of this process, without a word to its clients.

    Any page may send a POST, but not choose the Origin header, which browsers always send with it (Fetch standard,
    section 3.2). The host does not decide: with a name that leads to this machine (DNS rebinding) a foreign page has
    the same host as the node.
    """
    policy = OriginPolicy(OriginSettings(allowed=tuple(origins), required=True), cookie="")

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    async def kill(request: Request) -> Response:
        origin = request.headers.get("origin")
        refusal = policy.check(origin)
        if refusal is not None or origin is None:
            return Response("only the demo page may kill a node\n", 403, media_type="text/plain")
        _logger.warning("killed by the demo page")
        # The page may come from another node, and has to read the answer.
        headers = {"access-control-allow-origin": origin}
        return Response(status_code=202, headers=headers, background=BackgroundTask(die))

    return Route("/demo/kill", kill, methods=["POST"])
