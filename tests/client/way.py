"""The way to a node, which can lose requests and answers, or answer by itself."""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

PATIENCE = 60.0

# What becomes of a request: it is passed on, and its answer back; its connection breaks before the node has it, or
# after the node has answered; nothing at all happens.
PASS, BREAK, LOSE, HOLD = "pass", "break", "lose", "hold"


class Request(NamedTuple):
    """What came over which connection."""

    path: str
    body: Any
    # The port of the client; its connections differ in it.
    port: int


class Way:
    """Listens in place of a node. `plan` says what becomes of the next requests; later ones pass."""

    def __init__(self, listener: socket.socket, node: str) -> None:
        self._listener = listener
        host, _, port = node.rpartition(":")
        self._node = (host, int(port))
        self.plan: deque[str | bytes] = deque()
        self.requests: list[Request] = []
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        # Acquired once for each connection that its client has closed.
        self.closed = threading.Semaphore(0)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self._listener.getsockname()[:2])

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, address = self._listener.accept()
                self._connections.append(connection)
                port = address[1] if address else 0
                thread = threading.Thread(target=self._connected, args=(connection, port))
                self._threads.append(thread)
                thread.start()

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._connections:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)

    def _connected(self, connection: socket.socket, port: int) -> None:
        with connection, suppress(OSError):
            while (request := message(connection)) is not None:
                head, _, body = request.partition(b"\r\n\r\n")
                self.requests.append(Request(head.split(b" ")[1].decode(), json.loads(body), port))
                action = self.plan.popleft() if self.plan else PASS
                if action == BREAK:
                    return
                if isinstance(action, bytes):
                    connection.sendall(action)
                elif action != HOLD:
                    answer = self._answer(request)
                    if action == LOSE:
                        return
                    connection.sendall(answer)
            self.closed.release()

    def _answer(self, request: bytes) -> bytes:
        with socket.create_connection(self._node, PATIENCE) as node:
            node.sendall(request)
            answer = message(node)
            assert answer is not None
            return answer


def message(connection: socket.socket) -> bytes | None:
    """The next request or answer; None at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (piece := connection.recv(65536)):
            return None
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answer(status: int, body: str) -> bytes:
    """An answer for the plan."""
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


@contextmanager
def way_to(node: str, listener: socket.socket | None = None) -> Iterator[Way]:
    """A way to the node at this address; on a listener of its own, if none is given."""
    way = Way(listener or socket.create_server(("127.0.0.1", 0)), node)
    thread = threading.Thread(target=way.serve)
    thread.start()
    try:
        yield way
    finally:
        way.stop()
        thread.join(PATIENCE)
