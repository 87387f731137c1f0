"""A client of Engine.IO whose requests a test writes by hand."""

import json
from collections.abc import Sequence
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

POLLING = {"EIO": "4", "transport": "polling"}
PATIENCE = 10.0


class EngineClient:
    """Polls."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        answer = http.get("/socket.io/", params=POLLING)
        assert answer.status_code == 200
        self.opened: dict[str, Any] = json.loads(answer.text.removeprefix("0"))
        self.sid: str = self.opened["sid"]
        self._packets: list[str] = []

    def poll(self) -> httpx.Response:
        return self.http.get("/socket.io/", params={**POLLING, "sid": self.sid})

    def post(self, *packets: str) -> httpx.Response:
        return self.http.post("/socket.io/", params={**POLLING, "sid": self.sid}, content="\x1e".join(packets))

    def send(self, *packets: str) -> None:
        answer = self.post(*packets)
        assert (answer.status_code, answer.text) == (200, "ok")

    def next(self) -> str:
        """The next packet that is no ping."""
        while True:
            if not self._packets:
                answer = self.poll()
                assert answer.status_code == 200, answer.text
                self._packets = answer.text.split("\x1e")
            packet = self._packets.pop(0)
            if packet != "2":
                return packet

    def ends(self) -> bool:
        """Whether nothing comes but the end, after which the client may begin anew."""
        answer = self.poll()
        return answer.status_code == 400

    def rest(self) -> list[str]:
        """The packets until the connection ends."""
        packets = self._packets
        while (answer := self.poll()).status_code == 200:
            packets += answer.text.split("\x1e")
        return packets

    def take(self, count: int) -> Sequence[str]:
        return [self.next() for _ in range(count)]

    def join(self, auth: str = "", namespace: str = "") -> str:
        """Connect to a namespace; returns the id of the socket."""
        self.send(f"40{namespace}{auth}")
        packet = self.next()
        assert packet.startswith(f"40{namespace}{{"), packet
        sid: str = json.loads(packet.removeprefix(f"40{namespace}"))["sid"]
        return sid

    def websocket(self, **options: Any) -> ClientConnection:
        """The WebSocket of an upgrade."""
        return over_websocket(self.http, self.sid, **options)


def over_websocket(http: httpx.Client, sid: str = "", **options: Any) -> ClientConnection:
    """A WebSocket of Engine.IO."""
    base = str(http.base_url).replace("http", "ws", 1).rstrip("/")
    suffix = f"&sid={sid}" if sid else ""
    websocket: ClientConnection = connect(f"{base}/socket.io/?EIO=4&transport=websocket{suffix}", proxy=None, **options)
    return websocket


def said(websocket: ClientConnection) -> str | bytes:
    """The next message that is no ping."""
    while (message := websocket.recv(timeout=PATIENCE)) == "2":
        pass
    return message
