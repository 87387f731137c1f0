"""A Connection for the tests: writes down what the transport calls, and does what the text of a message says."""

import threading
from collections.abc import Callable
from typing import Any

from gateway.errors import SLOW, CloseCode
from gateway.hub.encoder import Framing
from gateway.protocols.wire_protocol import Message
from gateway.session.transport import Transport
from gateway.transports.websocket.frames import WebSocketFraming


class RecordingConnection:
    """Echoes messages, except those that begin with a command.

    `close CODE REASON`, `abort`, `authenticate`, `ping`, `pause` (reading), `flood COUNT` (messages of 1,000 bytes,
    as fast as the transport allows).
    """

    def __init__(self, framing: Framing | None = None) -> None:
        """By default that of a WebSocket."""
        self.framing = framing or WebSocketFraming()
        self.events: list[tuple[Any, ...]] = []
        self.paused = False
        self._owed = 0
        self.transport: Transport | None = None
        self.on_message: Callable[[bytes], object] = lambda data: None
        self._changed = threading.Condition()

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        self._add("opened")

    def received(self, data: bytes, *, binary: bool) -> None:
        assert self.transport is not None
        self._add("received", data, binary)
        command, _, rest = data.decode(errors="replace").partition(" ")
        match command:
            case "close":
                code, _, reason = rest.partition(" ")
                self.close(CloseCode(int(code), reason))
            case "abort":
                self.transport.abort()
            case "authenticate":
                self.transport.authenticated()
            case "ping":
                self.transport.write(self.framing.ping)
            case "pause":
                self.transport.pause_reading()
            case "flood":
                self.flood(int(rest))
            case _:
                self.transport.write(self.framing.frame([Message(data, binary)]))

    def ponged(self) -> None:
        self._add("ponged")

    def pause_writing(self) -> None:
        self.paused = True
        self._add("pause_writing")

    def resume_writing(self) -> None:
        self.paused = False
        self._add("resume_writing")
        self._flood()

    def closed(self, code: int, reason: str) -> None:
        self._add("closed", code, reason)

    def shed(self) -> None:
        assert self.transport is not None
        self._add("shed")
        self.close(SLOW)

    def shutdown(self) -> None:
        assert self.transport is not None
        self._add("shutdown")
        self.close(CloseCode(3001, "shutdown"))

    def wait_for(self, *event: Any, times: int = 1) -> None:
        """Block the test, which runs in another thread, until the event has happened that often."""
        with self._changed:
            happened = self._changed.wait_for(lambda: self.events.count(event) >= times, 10)
        assert happened, f"{event} did not happen, but {self.events[-20:]}"

    def names(self) -> list[str]:
        return [event[0] for event in self.events]

    def flood(self, count: int) -> None:
        """Write so many messages, as fast as the transport allows."""
        self._owed += count
        self._flood()

    def say(self, *texts: bytes) -> None:
        """Write messages at once."""
        assert self.transport is not None
        self.transport.write(self.framing.frame([Message(text) for text in texts]))

    def close(self, code: CloseCode) -> None:
        assert self.transport is not None
        self.transport.close(code, self.framing.close(code))

    def _flood(self) -> None:
        assert self.transport is not None
        while self._owed and not self.paused:
            self._owed -= 1
            self.transport.write(self.framing.frame([Message(b"x" * 1000)]))

    def _add(self, *event: Any) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
