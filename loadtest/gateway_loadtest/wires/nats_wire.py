"""The client protocol of NATS in binary WebSocket frames, which need not end where a protocol line does.

A publish is followed by a PING, the idiom behind the `flush` of every NATS client: the server works through a
connection in order, so that the PONG says that the publication is with all subscriptions, and an error that comes
before it is the publication's. An answer to every line (`verbose`) would cost the server as much.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from gateway_loadtest.wires.contract import Acknowledged, Answer, Event, Failed, Opened, Subscribed

# INFO is the longest line, with the URLs of a cluster in it.
LONGEST_LINE = 64 * 1024
# The largest `max_payload` that a server can be set to.
LARGEST_MESSAGE = 64 * 1024 * 1024
_CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":false,"protocol":1,"lang":"python","version":"1",'
    b'"name":"gateway-loadtest"}\r\nPING\r\n'
)
_END = b"\r\n"


class _Asked(NamedTuple):
    """What a PONG answers: a subscribe, a publish, or neither: the handshake."""

    channel: str = ""
    number: int = 0


class Nats:
    """As in Wire. A publication whose mark is cut in two by a frame's end goes unseen; servers send whole messages."""

    __slots__ = ("_asked", "_error", "_numbers", "_rest")

    acknowledges = True
    confirms = True
    binary = True

    def __init__(self) -> None:
        self._asked: deque[_Asked] = deque()
        # A refusal that belongs to the next PONG.
        self._error = ""
        self._numbers = 0
        self._rest = b""

    def url(self, target: str, channels: Sequence[str]) -> str:
        return target

    def opening(self) -> Sequence[bytes]:
        self._asked.clear()
        self._asked.append(_Asked())
        self._error = ""
        self._numbers = 0
        self._rest = b""
        return (_CONNECT,)

    def subscribe(self, channel: str) -> Sequence[bytes]:
        self._asked.append(_Asked(channel))
        self._numbers += 1
        return (b"SUB %b %d\r\nPING\r\n" % (channel.encode(), self._numbers),)

    def publish(self, channel: str, payload: str, number: int) -> bytes:
        self._asked.append(_Asked(number=number))
        return b"PUB %b %d\r\n%b\r\nPING\r\n" % (channel.encode(), len(payload), payload.encode())

    def received(self, frame: bytes) -> Sequence[Event]:
        if self._rest:
            frame = self._rest + frame
        events: list[Event] = []
        begin = 0
        while begin < len(frame):
            end = self._next(frame, begin, events)
            if not end:
                break
            begin = end
        self._rest = frame[begin:]
        return events

    def _next(self, frame: bytes, begin: int, events: list[Event]) -> int:
        """Read what begins there; where the next begins, or 0 when some of it is missing."""
        line_end = frame.find(_END, begin, begin + LONGEST_LINE)
        if line_end < 0:
            if len(frame) - begin >= LONGEST_LINE:
                raise ValueError("a line without an end")
            return 0
        line = frame[begin:line_end]
        if not line.startswith(b"MSG "):
            self._line(line, events)
            return line_end + 2
        end = line_end + 2 + _size(line)
        if len(frame) < end + 2:
            return 0
        if not frame.startswith(_END, end):
            raise ValueError(f"a message of another size than it says: {line[:80]!r}")
        return end + 2

    def _line(self, line: bytes, events: list[Event]) -> None:
        if line == b"PONG":
            events.append(self._pong())
        elif line == b"PING":
            events.append(Answer(b"PONG\r\n"))
        elif line.startswith(b"-ERR"):
            self._refused(line[4:].decode(errors="replace").strip(" '"), events)
        elif not line.startswith(b"INFO {") and line != b"+OK":
            raise ValueError(f"no line of NATS: {line[:40]!r}")

    def _pong(self) -> Event:
        if not self._asked:
            raise ValueError("a PONG without a PING")
        asked = self._asked.popleft()
        error, self._error = self._error, ""
        if asked.number:
            return Acknowledged(asked.number, error)
        if asked.channel:
            return Failed(f"subscribe to {asked.channel}: {error}") if error else Subscribed(asked.channel)
        return Failed(f"connect: {error}") if error else Opened()

    def _refused(self, text: str, events: list[Event]) -> None:
        """After a violation of permissions the connection goes on; of everything else it ends."""
        if text.lower().startswith("permissions violation"):
            self._error = text
        else:
            events.append(Failed(f"the server ended the connection: {text}"))


def _size(line: bytes) -> int:
    """Of the message that a line announces: MSG <subject> <sid> [reply-to] <#bytes>."""
    fields = line.split()
    if not 4 <= len(fields) <= 5 or not fields[-1].isdigit() or len(fields[-1]) > 9:
        raise ValueError(f"no message line of NATS: {line[:80]!r}")
    size = int(fields[-1])
    if size > LARGEST_MESSAGE:
        raise ValueError(f"a message of {size} bytes")
    return size
