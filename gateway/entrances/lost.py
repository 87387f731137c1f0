"""Requests that find no entrance: their answer says why, and so does a line in the log, once in a while."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from starlette.routing import BaseRoute, Route, WebSocketRoute

from gateway.entrances.entrance import Entrance, OverWebSocket
from gateway.log import LONGEST_CHOSEN, LogLimit, cut
from gateway.transports.client_addresses import Network
from gateway.transports.handshake import Handshake, Scope
from gateway.transports.responses import error_body

logger = logging.getLogger(__name__)

# Seconds between two lines about the same thing: clients repeat such requests, and anybody can send them.
LOG_INTERVAL = 60.0

HEALTH = "health is at /health/live and /health/ready"
INTERNAL = "this is the internal listener; clients connect to the public one (setting listen)"

# Where clients of other protocols look for their server, whatever follows in the path.
OTHER_PROTOCOLS = {
    "/connection/sockjs": "Centrifuge over SockJS",
    "/engine.io": "Engine.IO",
    "/sockjs": "SockJS",
    "/app/{key}": "Pusher",
    "/cable": "Action Cable",
    "/mqtt": "MQTT over WebSocket",
    "/.well-known/mercure": "Mercure",
}


def lost_routes(entrances: Sequence[Entrance], trusted_proxies: Sequence[Network]) -> Iterator[BaseRoute]:
    """Routes for requests without an upgrade to the paths of WebSockets, for clients of other protocols, and for
    WebSockets to any other path. No route for WebSockets may follow them.
    """
    lines = LogLimit(LOG_INTERVAL)
    for entrance in entrances:
        if isinstance(entrance.carrier, OverWebSocket):
            yield Route(entrance.path, _WithoutUpgrade(entrance.path, lines, trusted_proxies))
    for path, name in OTHER_PROTOCOLS.items():
        noted = "client of a protocol that is not served"
        endpoint = _NotServed(noted, {"speaks": name}, f"{name} is not served here", lines, trusted_proxies)
        yield Route(path + "{rest:path}", endpoint)
        yield WebSocketRoute(path + "{rest:path}", endpoint)
    paths = _listed([each for each in entrances if isinstance(each.carrier, OverWebSocket)])
    message = f"no WebSocket at this path, only at {paths}"
    noted = "WebSocket to a path that has none"
    endpoint = _NotServed(noted, {"paths": paths}, message, lines, trusted_proxies, by_path=True)
    yield WebSocketRoute("/{rest:path}", endpoint)


def internal_routes(entrances: Sequence[Entrance], trusted_proxies: Sequence[Network]) -> Iterator[BaseRoute]:
    """Routes of the internal listener, for clients that have mistaken it. No route for WebSockets may follow them."""
    endpoint = _NotServed(INTERNAL, {}, INTERNAL, LogLimit(LOG_INTERVAL), trusted_proxies)
    for entrance in entrances:
        yield Route(entrance.path, endpoint)
    yield WebSocketRoute("/{rest:path}", endpoint)


def nowhere(entrances: Sequence[Entrance], *, api: bool) -> Any:
    """An ASGI application for HTTP requests of the public listener that match no route. `api`: it has the API."""
    where = "" if api else " of the internal listener (setting api.public)"
    clients = _listed(entrances)
    return _Nowhere(f"nothing at this path: the API is at /api/METHOD{where}, {HEALTH}, clients connect at {clients}")


def nowhere_internal() -> Any:
    """As `nowhere`, for the internal listener."""
    return _Nowhere(f"nothing at this path: the API is at /api/METHOD, {HEALTH}, metrics are at /metrics")


class _Nowhere:
    """Answers 404 and says what is where. Anybody asks for all kinds of paths, so there is no line in the log."""

    def __init__(self, message: str) -> None:
        self._message = message

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        await _answer(send, "http.response", 404, [], self._message)


def _listed(entrances: Sequence[Entrance]) -> str:
    """Their paths, as one says them."""
    *others, last = (_shown(each.path) for each in entrances)
    return f"{', '.join(others)} and {last}" if others else last


def _shown(path: str) -> str:
    """The path of a route with its parameters in capitals."""
    return re.sub(r"\{(\w+)(:\w+)?\}", lambda found: found[1].upper(), path)


class _WithoutUpgrade:
    """Answers 426 (RFC 9110 section 15.5.22)."""

    def __init__(self, path: str, lines: LogLimit, trusted_proxies: Sequence[Network]) -> None:
        """`path` is that of the route: proxies are configured by path, and may pass the upgrade for another one."""
        self._path = path
        self._lines = lines
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if (suppressed := self._lines.passes("no upgrade", self._path)) is not None:
            logger.warning(
                "request for a WebSocket path with no Upgrade header; does your proxy pass Upgrade and Connection?",
                extra={**_where(scope, self._trusted_proxies), **suppressed},
            )
        headers = [(b"upgrade", b"websocket")]
        if scope["http_version"].startswith("1"):
            # HTTP/2 has no such header (RFC 9113 section 8.2.2).
            headers.append((b"connection", b"Upgrade"))
        message = "this path is a WebSocket (ws://, wss://); a proxy in front has to pass Upgrade and Connection"
        await _answer(send, "http.response", 426, headers, message)


class _NotServed:
    """Answers 404 and says why."""

    def __init__(
        self,
        noted: str,
        fields: Mapping[str, str],
        message: str,
        lines: LogLimit,
        trusted_proxies: Sequence[Network],
        *,
        by_path: bool = False,
    ) -> None:
        """`noted` and `fields` are for the log, `message` is for the client.

        `by_path`: the path is what is wrong, and each has a line of its own.
        """
        self._by_path = by_path
        self._noted = noted
        self._fields = fields
        self._message = message
        self._lines = lines
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        about = cut(scope["path"], LONGEST_CHOSEN) if self._by_path else ""
        if (suppressed := self._lines.passes(self._message, about)) is not None:
            logger.warning(
                "%s", self._noted, extra={**self._fields, **_where(scope, self._trusted_proxies), **suppressed}
            )
        kind = "http.response"
        if scope["type"] == "websocket":
            await receive()
            kind = "websocket.http.response"
            if kind not in scope.get("extensions", {}):
                await send({"type": "websocket.close"})
                return
        await _answer(send, kind, 404, [], self._message)


def _where(scope: Scope, trusted_proxies: Sequence[Network]) -> dict[str, str]:
    """Fields of a log line."""
    handshake = Handshake(scope, trusted_proxies)
    return {"path": cut(handshake.path, LONGEST_CHOSEN), "address": handshake.address}


async def _answer(send: Any, kind: str, status: int, headers: list[tuple[bytes, bytes]], message: str) -> None:
    body = error_body(status, message)
    headers += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{kind}.start", "status": status, "headers": headers})
    await send({"type": f"{kind}.body", "body": body})
