"""The gateway's server-sent events: one channel a response, and a position with every publication.

Nothing can be published over it: publishers connect to the same node with the protocol `centrifuge`.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from gateway_loadtest.planning.plan import SSE_PATH
from gateway_loadtest.wires.centrifuge_wire import PATH, Centrifuge
from gateway_loadtest.wires.contract import Closing, Event, Opened, Request, Subscribed
from gateway_loadtest.wires.message_cutters import EventCutter, data_of
from gateway_loadtest.wires.raw_wire import NO_CHANNEL

_SUBSCRIBED = b": subscribed"
_GAP = b"event: gateway:gap"
_DISCONNECT = b"event: gateway:disconnect"


class Sse:
    """As in HttpWire, for subscribers. After a loss it asks for what came behind the last position, as an `EventSource`
    does."""

    __slots__ = ("_channel", "_cutter", "_latest", "_position", "_recovers", "_token")

    acknowledges = False
    confirms = True

    def __init__(self, token: Callable[[], str]) -> None:
        """`token` makes a connection token, or is empty for anonymous clients."""
        self._token = token
        self._channel = ""
        self._cutter = EventCutter()
        # As the server wrote it, and the newest events with one that was not read yet.
        self._position = ""
        self._latest = b""
        self._recovers = False

    def url(self, target: str, channels: Sequence[str]) -> str:
        parts = urlsplit(target)
        path = parts.path.removesuffix(SSE_PATH).rstrip("/") + SSE_PATH
        channel = quote(channels[0] if channels else NO_CHANNEL, safe="")
        return parts._replace(path=path.replace("{channel}", channel)).geturl()

    def stream(self, target: str, channels: Sequence[str]) -> Request:
        self._channel = channels[0] if channels else ""
        self._cutter = EventCutter()
        self._read_position()
        self._recovers = bool(self._position)
        headers = {"Accept": "text/event-stream"}
        if self._position:
            headers["Last-Event-ID"] = self._position
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        return Request("GET", self.url(target, channels), headers)

    def cut(self, piece: bytes) -> bytes:
        return self._cutter.cut(piece)

    def subscribe(self, channel: str) -> Sequence[bytes]:
        return ()

    def received(self, frame: bytes) -> Sequence[Event]:
        if frame.startswith(b"data: ") and b"\nevent:" not in frame and b"\n:" not in frame:
            # By far the most frequent: publications alone.
            if b"\nid:" in frame:
                self._latest = frame
            return ()
        events: list[Event] = []
        for block in frame.split(b"\n\n"):
            self._event(block.strip(b"\n"), events)
        return events

    def _event(self, block: bytes, events: list[Event]) -> None:
        if b"\nid:" in block:
            self._latest = block
        name = block.partition(b"\n")[0]
        if name == _SUBSCRIBED:
            self._subscribed(True if self._recovers else None, events)
        elif name == _GAP:
            self._subscribed(False, events)
        elif _DISCONNECT in block.split(b"\n", 2)[:2]:
            # A `retry:` may come first.
            told: Any = json.loads(data_of(block))
            events.append(Closing(int(told["code"]), str(told["reason"])))
        elif not name.startswith((b"data:", b"event:", b":", b"retry:")) and name:
            raise ValueError(f"no server-sent event: {name[:40]!r}")

    def _subscribed(self, recovered: bool | None, events: list[Event]) -> None:
        events.append(Opened())
        if self._channel:
            events.append(Subscribed(self._channel, recovered))

    def _read_position(self) -> None:
        latest, self._latest = self._latest, b""
        if latest:
            line = latest[latest.rindex(b"\nid:") + 4 :].partition(b"\n")[0]
            # ASCII alone: it goes into a header. An empty one is a position no more.
            self._position = line.strip().decode("ascii")

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        raise NotImplementedError("not called: publishers have a SsePublisher")

    def command(self, target: str, frames: Sequence[bytes]) -> Request:
        raise NotImplementedError("not called: nothing is sent")


class SsePublisher(Centrifuge):
    """Over a WebSocket to the node of the target."""

    __slots__ = ()

    def url(self, target: str, channels: Sequence[str]) -> str:
        parts = urlsplit(target)
        path = parts.path.removesuffix(SSE_PATH).rstrip("/") + PATH
        return parts._replace(scheme="wss" if parts.scheme == "https" else "ws", path=path, query="").geturl()
