"""Attackers that hold connections open and leave them alone."""

import http.client
import json
import select
import socket
import time
from collections.abc import Iterator

from tests.attack.attacker import Address, Attacker, command, hello
from tests.attack.flood import websocket
from tests.attack.site import API_KEY

_CONNECT_SECONDS = 10.0


class Silent(Attacker):
    """More connections than limits.unauthenticated has by default, on which nothing is ever sent."""

    bars_the_door = True
    count = 4_200

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._held: dict[int, socket.socket] = {}
        self._poll = select.poll()

    def prepare(self) -> None:
        for _ in range(self.count):
            self._open()

    def attack(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            # Readable are those that the server has closed.
            for descriptor, _ in self._poll.poll(left * 1000):
                self._poll.unregister(descriptor)
                self._held.pop(descriptor).close()
                self._open()

    def _open(self) -> None:
        try:
            connection = socket.create_connection(self.address, _CONNECT_SECONDS)
        except OSError:
            self.tally.refused += 1
            return
        self.tally.connections += 1
        self._held[connection.fileno()] = connection
        self._poll.register(connection, select.POLLIN)


class NonReaders(Attacker):
    """Subscribers that read nothing, while a backend publishes large messages to them."""

    count = 300
    rate = 20.0
    channel = "wall"
    size = 60_000

    def __init__(self, address: Address) -> None:
        super().__init__(address)
        self._held: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._backend = http.client.HTTPConnection(*address, timeout=_CONNECT_SECONDS)

    def prepare(self) -> None:
        for _ in range(self.count):
            self._open()

    def attack(self, deadline: float) -> None:
        for due in _times(1 / self.rate, deadline):
            time.sleep(max(due - time.monotonic(), 0.0))
            self._publish()
            # Of no events but errors, hence those that the server has cut off.
            for descriptor, _ in self._poll.poll(0):
                self._poll.unregister(descriptor)
                self._held.pop(descriptor).close()
                self._open()

    def _open(self) -> None:
        try:
            connection = websocket(self.address, hello() + command(subscribe={"channel": self.channel}))
        except OSError:
            self.tally.refused += 1
            return
        self.tally.connections += 1
        self._held[connection.fileno()] = connection
        self._poll.register(connection, 0)

    def _publish(self) -> None:
        body = json.dumps({"channel": self.channel, "data": "x" * self.size})
        headers = {"Content-Type": "application/json", "X-API-Key": API_KEY}
        try:
            self._backend.request("POST", "/api/publish", body, headers)
            answer = self._backend.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._backend.close()
            return
        self.tally.messages += answer.status == http.HTTPStatus.OK
        self.tally.bytes += len(body)


def _times(period: float, deadline: float) -> Iterator[float]:
    due = time.monotonic()
    while due < deadline:
        yield due
        due += period
