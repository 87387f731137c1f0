"""Socket.IO 5 over the WebSocket transport of Engine.IO 4.

The server answers the events `subscribe` (channel) and `publish` (channel, text) with an acknowledgement, and sends the
event `message` (text) to a channel's subscribers. An acknowledgement whose first argument is an object with an `error`
is a refusal, every other one a consent.

Source: https://socket.io/docs/v4/socket-io-protocol/ and https://socket.io/docs/v4/engine-io-protocol/
"""

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from gateway_loadtest.wires.contract import Acknowledged, Answer, Event, Failed, Opened, Subscribed

PATH = "/socket.io/"
QUERY = "EIO=4&transport=websocket"
# Acknowledgement ids above are those of publishes, below those of subscribes.
FIRST_PUBLISH_ID = 2**20
_CONNECT = b"40"
_EVENT = b"42"
_PING, _PONG = b"2", b"3"


class SocketIO:
    """As in Wire. In the main namespace."""

    __slots__ = ("_asked",)

    acknowledges = True
    confirms = True
    binary = False

    def __init__(self) -> None:
        self._asked: list[str] = []

    def url(self, target: str, channels: Sequence[str]) -> str:
        parts = urlsplit(target)
        path = parts.path if parts.path.strip("/") else PATH
        query = f"{parts.query}&{QUERY}" if parts.query else QUERY
        return parts._replace(path=path, query=query).geturl()

    def opening(self) -> Sequence[bytes]:
        self._asked.clear()
        # Servers take it before their own open packet has arrived here; waiting for that is a round trip more.
        return (_CONNECT,)

    def subscribe(self, channel: str) -> Sequence[bytes]:
        self._asked.append(channel)
        return (b'42%d["subscribe",%b]' % (len(self._asked) - 1, json.dumps(channel).encode()),)

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        return b'42%d["publish",%b,"%b"]' % (FIRST_PUBLISH_ID + number, json.dumps(channel).encode(), payload.encode())

    def received(self, frame: bytes) -> Sequence[Event]:
        # By far the most frequent: one publication.
        if frame.startswith(_EVENT):
            return ()
        kind, rest = frame[:1], frame[1:]
        if kind == b"4":
            return self._message(rest)
        if kind == _PING:
            return (Answer(_PONG),)
        if kind in (b"0", b"1", b"3", b"6"):
            # Open, close (the connection's end follows), pong, noop.
            return ()
        raise ValueError(f"no packet of Engine.IO: {frame[:40]!r}")

    def _message(self, packet: bytes) -> Sequence[Event]:
        kind, rest = packet[:1], packet[1:]
        if kind == b"3":
            return (self._acknowledged(rest),)
        if kind == b"0":
            return (Opened(),)
        if kind == b"1":
            return (Failed("the server disconnected the socket"),)
        if kind == b"4":
            return (Failed(f"connect: {_said(json.loads(rest or b'null'))}"),)
        raise ValueError(f"no packet of Socket.IO: {packet[:40]!r}")

    def _acknowledged(self, packet: bytes) -> Event:
        id_text, bracket, _ = packet.partition(b"[")
        if not bracket or not id_text.isdigit():
            raise ValueError(f"an acknowledgement without an id or arguments: {packet[:40]!r}")
        arguments = json.loads(packet[len(id_text) :])
        first = arguments[0] if arguments else None
        refused = isinstance(first, dict) and bool(first.get("error"))
        number = int(id_text)
        if number > FIRST_PUBLISH_ID:
            return Acknowledged(number - FIRST_PUBLISH_ID, f"publish {_said(first)}" if refused else "")
        if number >= len(self._asked):
            raise ValueError(f"an acknowledgement of nothing: {number}")
        channel = self._asked[number]
        return Failed(f"subscribe to {channel}: {_said(first)}") if refused else Subscribed(channel)


def _said(data: Any) -> str:
    """What an error says, for people."""
    text = (data.get("error") or data.get("message")) if isinstance(data, dict) else data
    return f"refused: {text}" if text else "refused"
