"""`/` of a node without the demo: tells a visitor what answers here."""

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

TEXT = """\
This is a node of gateway, a pub/sub message gateway. It works, and has no page of its own here.

In its repository and its documentation:

  README.md            what it is, and the first steps
  docs/guide.md        settings, tokens and keys
  docs/protocol.md     the paths and protocols for clients, and the HTTP API
  docs/operations.md   deployment, health, metrics

A chat to try it with:  gateway cluster --demo
"""


def root_route() -> Route:
    """For everybody: it tells nothing about this node."""

    async def root(request: Request) -> Response:
        return PlainTextResponse(TEXT)

    return Route("/", root)
