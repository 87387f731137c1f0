"""Clients that write bytes: HTTP and WebSockets without a library that keeps them from misbehaving."""

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Self

from websockets.speedups import apply_mask

MASK = b"\x12\x34\x56\x78"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


def handshake(path: str = "/record", headers: Iterable[str] = ()) -> bytes:
    """A request for an upgrade."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: test",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {KEY.decode()}",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """A frame as clients send it."""
    length = len(payload)
    if length < 126:
        head = bytes([0x80 | length])
    elif length < 65_536:
        head = bytes([0x80 | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([0x80 | 127]) + length.to_bytes(8, "big")
    data: bytes = apply_mask(payload, MASK)
    return bytes([(0x80 if fin else 0) | opcode]) + head + MASK + data


# Seconds after which something does not come any more, however busy the machine is.
HANG = 60.0


class RawClient:
    """A TCP connection that reads HTTP heads and frames."""

    def __init__(self, address: tuple[str, int], *, receive_buffer: int = 0) -> None:
        """A small `receive_buffer` makes a slow reader felt soon."""
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(HANG)
        try:
            self.socket.connect(address)
        except OSError:
            self.socket.close()
            raise
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.socket.close()

    def send(self, *data: bytes) -> None:
        self.socket.sendall(b"".join(data))

    def upgrade(self, path: str = "/record", headers: Iterable[str] = ()) -> bytes:
        """Open a WebSocket; the head of the answer."""
        self.send(handshake(path, headers))
        return self.head()

    def head(self) -> bytes:
        """The next HTTP head, or what there is of it when the connection ends."""
        while b"\r\n\r\n" not in self._buffer and self._more():
            pass
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def status(self) -> int:
        """The status of the next response; 0 when there is none."""
        parts = self.head().split(b" ", 2)
        return int(parts[1]) if len(parts) > 1 else 0

    def rest(self) -> bytes:
        """Everything until the connection ends, by a reset too."""
        while self._more():
            pass
        rest, self._buffer = self._buffer, b""
        return rest

    def frame(self) -> tuple[int, bytes] | None:
        """The next frame of the server; None when the connection ends."""
        head = self._take(2)
        if head is None:
            return None
        length = head[1]
        if length > 125:
            extended = self._take(2 if length == 126 else 8)
            assert extended is not None
            length = int.from_bytes(extended, "big")
        payload = self._take(length)
        assert payload is not None
        return head[0] & 0x0F, payload

    def close_code(self) -> int:
        """The code of the close frame that comes next among the frames; 0 when the connection ends without."""
        while (frame := self.frame()) is not None:
            if frame[0] == 0x8:
                return int.from_bytes(frame[1][:2], "big")
        return 0

    def reset(self) -> None:
        """End the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _take(self, count: int) -> bytes | None:
        while len(self._buffer) < count:
            if not self._more():
                return None
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def _more(self) -> bool:
        with suppress(ConnectionError):
            data = self.socket.recv(65_536)
            self._buffer += data
            return bool(data)
        return False
