"""The protocol of Centrifugal Labs where no WebSocket gets through: replies in an HTTP response that does not end,
commands in requests of their own. SDKs call it emulation.

Source: https://centrifugal.dev/docs/transports/http_stream, https://centrifugal.dev/docs/transports/sse
"""

import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from gateway_loadtest.wires.centrifuge_wire import Centrifuge
from gateway_loadtest.wires.contract import Opened, Request
from gateway_loadtest.wires.message_cutters import Cutter, EventCutter, data_of

EMULATION = "/emulation"
_JSON = {"Content-Type": "application/json"}


class Emulated(Centrifuge):
    """As in HttpWire, for its variants below.

    The session that commands are for, and its node, come with the reply to the connect.
    """

    __slots__ = ("_node", "_session")

    def __init__(self, token: Callable[[], str]) -> None:
        super().__init__(token)
        self._session = self._node = ""

    def command(self, target: str, frames: Sequence[bytes]) -> Request:
        url = self.url(target, ())
        base, is_usual, _ = url.partition(self.path)
        if not is_usual:
            scheme, _, rest = url.partition("://")
            base = f"{scheme}://{rest.partition('/')[0]}"
        request = {"session": self._session, "node": self._node, "data": b"\n".join(frames).decode()}
        return Request("POST", base + EMULATION, _JSON, json.dumps(request).encode())

    def _connected(self, reply: Any) -> Opened:
        session = reply["session"]
        if not isinstance(session, str):
            raise TypeError(f"a session that is no text: {session!r:.80}")
        self._session, self._node = session, str(reply.get("node", ""))
        return super()._connected(reply)


class EmulatedLines(Emulated):
    """A JSON text a line, in the answer to a POST."""

    __slots__ = ("_cutter",)

    path = "/connection/http_stream"

    def stream(self, target: str, channels: Sequence[str]) -> Request:
        self._cutter = Cutter(b"\n")
        return Request("POST", self.url(target, channels), _JSON, b"\n".join(self.opening()))

    def cut(self, piece: bytes) -> bytes:
        return self._cutter.cut(piece)


class EmulatedEvents(Emulated):
    """Server-sent events, which an `EventSource` asks for with a GET: the connect is a parameter."""

    __slots__ = ("_cutter",)

    path = "/connection/sse"

    def stream(self, target: str, channels: Sequence[str]) -> Request:
        self._cutter = EventCutter()
        url = self.url(target, channels)
        parameter = "cf_connect=" + quote(b"\n".join(self.opening()))
        return Request("GET", f"{url}{'&' if '?' in url else '?'}{parameter}", {"Accept": "text/event-stream"})

    def cut(self, piece: bytes) -> bytes:
        return data_of(self._cutter.cut(piece))
