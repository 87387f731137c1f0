"""Clients of the node under test: real WebSockets."""

import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from gateway.tokens import connection_token
from tests.api.site import SECRET, Site

PATIENCE = 60.0


def plain(site: Site, channel: str, query: str = "", **options: Any) -> ClientConnection:
    """A plain client on a channel; nothing says that it is subscribed, see `settled`."""
    url = f"ws://{site.public}/ws/{quote(channel, safe=':,')}{query}"
    client: ClientConnection = connect(url, compression=None, proxy=None, open_timeout=PATIENCE, **options)
    return client


@contextmanager
def settled(site: Site, channel: str, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """A plain client whose subscription is known to stand: it has heard itself."""
    with plain(site, channel, query, **options) as client:
        client.send("hello")
        assert client.recv(PATIENCE) == "hello"
        yield client


def close_of(client: ClientConnection) -> tuple[int, str]:
    """How the server closes the connection; what arrives before is dropped."""
    with pytest.raises(ConnectionClosed) as closed:
        deque(iter(partial(client.recv, PATIENCE), None))
    received = closed.value.rcvd
    return (received.code, received.reason) if received is not None else (1006, "")


class Native:
    """A client of the native protocol."""

    def __init__(self, socket: ClientConnection, token: str) -> None:
        self.socket = socket
        self._lines: deque[dict[str, Any]] = deque()
        self._pushes: deque[dict[str, Any]] = deque()
        self._id = 0
        self.connected: dict[str, Any] = self.command(connect={"token": token} if token else {})
        self.id: str = self.connected.get("connect", {}).get("client", "")

    def command(self, **body: Any) -> dict[str, Any]:
        """The reply to a command; pushes that come before are kept for `push`."""
        self._id += 1
        self.socket.send(json.dumps({"id": self._id, **body}))
        while (line := self._line()).get("id") != self._id:
            self._pushes.append(line["push"])
        return line

    def subscribe(self, channel: str, token: str = "") -> None:
        reply = self.command(subscribe={"channel": channel, "token": token})
        assert "subscribe" in reply, reply

    def push(self) -> dict[str, Any]:
        """The next push."""
        if self._pushes:
            return self._pushes.popleft()
        push: dict[str, Any] = self._line()["push"]
        return push

    def pushes(self) -> list[dict[str, Any]]:
        """All that have come until now: those in front of the answer to a command."""
        self.command(rpc={"method": "none"})
        taken = list(self._pushes)
        self._pushes.clear()
        return taken

    def publication(self) -> dict[str, Any]:
        """The publication in the next push, which must be one."""
        push = self.push()
        publication: dict[str, Any] = push["pub"]
        return publication

    def close_code(self) -> tuple[int, str]:
        return close_of(self.socket)

    def _line(self) -> dict[str, Any]:
        while not self._lines:
            text = self.socket.recv(PATIENCE)
            # `{}` is the ping, which is too rare here to be answered.
            self._lines.extend(line for line in map(json.loads, str(text).split("\n")) if line)
        return self._lines.popleft()


@contextmanager
def native(site: Site, user: str = "", *, token: str = "", **options: Any) -> Iterator[Native]:
    """Connected as `user` (empty: anonymous), or with a token."""
    url = f"ws://{site.public}/connection/websocket"
    with connect(url, compression=None, proxy=None, open_timeout=PATIENCE, **options) as socket:
        yield Native(socket, token or (connection_token(SECRET, user) if user else ""))
