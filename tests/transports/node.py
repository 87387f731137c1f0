"""A node with a recording endpoint, as a process: `python -m tests.transports.node SETTINGS_AS_JSON`.

Writes a JSON line with its addresses once it serves, and one for each step of its end.
"""

import asyncio
import json
import socket
import sys
from contextlib import suppress
from typing import Any

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway.config.settings import ServerSettings
from gateway.errors import GatewayError
from gateway.transports.http_options import HttpOptions
from gateway.transports.server import serve
from tests.transports.conftest import Site


def say(**line: Any) -> None:
    print(json.dumps(line), flush=True)


class Node(Site):
    """Its lifespan, like its slow route, reports."""

    async def run(self, stuck: bool) -> None:
        public = self.app()
        public.router.lifespan_context = lambda app: _Lifespan(stuck)
        public.router.routes += [Route("/slow", _slow), Route("/never", _never), Route("/stubborn", _stubborn)]
        internal = Starlette(routes=[Route("/health", lambda request: PlainTextResponse("fine"))])
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        limits = self.settings.limits
        await serve(
            public,
            internal,
            self.settings,
            options=HttpOptions(limits, drain=self.drain, metrics=self.metrics, admission=self.admission),
            internal_options=HttpOptions(limits, drain=self.drain, metrics=self.metrics),
            public_sockets=sockets[:1],
            internal_sockets=sockets[1:],
            on_started=lambda: say(public=sockets[0].getsockname(), internal=sockets[1].getsockname()),
            on_draining=lambda: say(step="draining"),
        )


class _Lifespan:
    def __init__(self, stuck: bool) -> None:
        self._stuck = stuck

    async def __aenter__(self) -> None:
        say(step="started")

    async def __aexit__(self, *exc: object) -> None:
        say(step="stopping")
        if self._stuck:
            await asyncio.Event().wait()


async def _slow(request: Request) -> PlainTextResponse:
    say(step="slow")
    await asyncio.sleep(0.5)
    return PlainTextResponse("at last")


async def _never(request: Request) -> PlainTextResponse:
    say(step="slow")
    await asyncio.Event().wait()
    raise AssertionError


async def _stubborn(request: Request) -> PlainTextResponse:
    """Loses cancellations, as `asyncio.wait_for` does before Python 3.12."""
    say(step="slow")
    for _ in range(5):
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return PlainTextResponse("too late")


def main() -> int:
    options = json.loads(sys.argv[1])
    stuck = options.pop("stuck", False)
    try:
        uvloop.run(Node(ServerSettings.model_validate(options)).run(stuck))
    except GatewayError as error:
        say(error=str(error))
        return 1
    say(step="ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
