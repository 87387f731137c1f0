"""Whatever a client throws at a node: it gets its code, a counter moves, and nobody else on the node notices."""

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import ClientConnection, connect

from tests.api.clients import Native
from tests.cli.commands import Command, command
from tests.transports.raw import HANG, RawClient, handshake, masked

CENTRIFUGE = "/connection/websocket"
PLAIN = "/ws/garbage"
TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
HELLO = masked(TEXT, b'{"id":1,"connect":{}}')

SETTINGS = """
listen = "127.0.0.1:0"
internal_listen = "127.0.0.1:0"
drain.window = 0
# The quiet clients read, and so answer pings, only now and then.
heartbeat = { ping_interval = 3600, pong_timeout = 1800 }
auth = { hmac_secret = "the secret of the tests, longer than 32 bytes", anonymous = true }
channels = { allow_subscribe = ["client", "anonymous"], allow_publish = ["client", "anonymous"] }
namespaces.closed = {}
limits = { fragments = 20, header_bytes = 2000, header_count = 20, commands_per_second = 100 }
"""


class Neighbours:
    """A node with two quiet clients of one channel, of either protocol, and what it counts."""

    def __init__(self, node: Command, reader: ClientConnection, plain: ClientConnection, internal: int) -> None:
        """`internal` is the port that tells the metrics."""
        self.node = node
        self.address: tuple[str, int] = reader.remote_address[:2]
        self._internal = internal
        self._reader = Native(reader, "")
        self._reader.subscribe("news")
        self._plain = plain
        self._sent = 0
        self.check()

    def check(self) -> None:
        """Both get the next message, and nothing was between it and the one before."""
        self._sent += 1
        self._plain.send(f"{self._sent}")
        assert self._plain.recv(HANG) == f"{self._sent}"
        assert self._reader.publication()["data"] == f"{self._sent}"

    def counted(self, *names: str) -> float:
        """The sum of these metrics over all their labels."""
        scrape = http.client.HTTPConnection("127.0.0.1", self._internal, timeout=HANG)
        scrape.request("GET", "/metrics")
        text = scrape.getresponse().read().decode()
        scrape.close()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name in names)

    def troubles(self) -> float:
        """What was refused, answered with an error, or closed."""
        return self.counted(
            "gateway_protocol_errors_total",
            "gateway_connections_refused_total",
            "gateway_connections_closed_total",
            "gateway_command_errors_total",
        )

    def wait_until_alone(self) -> None:
        """Every other connection is gone, with all that it held; and nothing was an error of the node's own."""
        deadline = time.monotonic() + HANG
        while self.counted("gateway_connections") > 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert self.counted("gateway_connections") == 2
        assert self.counted("gateway_connections_unauthenticated") == 0
        assert self.counted("gateway_subscriptions") == 2
        assert self.counted("gateway_channels") == 1
        assert self.counted("gateway_outbox_bytes") == 0
        assert [line for line in self.node.errors if '"level": "error"' in line] == []


@pytest.fixture(scope="module")
def neighbours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Neighbours]:
    folder = tmp_path_factory.mktemp("node")
    (folder / "gateway.toml").write_text(SETTINGS)
    with command("serve", cwd=folder) as node:
        line = json.loads(node.expect('"serving"')[0])
        public, internal = (int(line[name].rpartition(":")[2]) for name in ("public", "internal"))
        url = f"ws://127.0.0.1:{public}"
        with (
            connect(url + CENTRIFUGE, compression=None, proxy=None, open_timeout=HANG, ping_interval=None) as reader,
            connect(url + "/ws/news", compression=None, proxy=None, open_timeout=HANG, ping_interval=None) as plain,
        ):
            yield Neighbours(node, reader, plain, internal)


# Known offences


def asking(**body: Any) -> bytes:
    return masked(TEXT, json.dumps(body).encode())


EMPTY_FRAGMENT = masked(CONTINUATION, b"", fin=False)
UNSUBSCRIBE = b'{"id":2,"unsubscribe":{"channel":"x"}}'
OFFENCES = {
    "unmasked frame": (CENTRIFUGE, b"\x81\x05hello", 1002),
    "reserved bits": (CENTRIFUGE, b"\xf1\x80....", 1002),
    "reserved opcode": (CENTRIFUGE, b"\x83\x80....", 1002),
    "continuation of nothing": (CENTRIFUGE, masked(CONTINUATION, b"x"), 1002),
    "long ping": (CENTRIFUGE, masked(PING, b"x" * 126), 1002),
    "wrong close code": (CENTRIFUGE, masked(CLOSE, b"\x03\xec"), 1002),
    "bad UTF-8": (CENTRIFUGE, masked(TEXT, b"\xff"), 1007),
    "message too big": (CENTRIFUGE, b"\x81\xff\x00\x00\x00\x00\x00\x10\x00\x00....", 1009),
    "too many fragments": (CENTRIFUGE, masked(TEXT, b"", fin=False) + EMPTY_FRAGMENT * 30, 1008),
    "pings without end": (CENTRIFUGE, masked(PING) * 150, 1008),
    "pongs without end": (CENTRIFUGE, masked(PONG) * 150, 1008),
    "half an object": (CENTRIFUGE, masked(TEXT, b"{"), 3501),
    "empty message": (CENTRIFUGE, masked(TEXT, b""), 3501),
    "deep JSON": (CENTRIFUGE, masked(TEXT, b"[" * 60_000), 3501),
    "binary message": (CENTRIFUGE, masked(BINARY, b'{"id":1,"connect":{}}'), 3501),
    "unknown command": (CENTRIFUGE, asking(id=1, dance={}), 3501),
    "wrong type": (CENTRIFUGE, asking(id=1, connect=[]), 3501),
    "no connect": (CENTRIFUGE, asking(id=1, subscribe={"channel": "x"}), 3501),
    "two connects": (CENTRIFUGE, HELLO + HELLO, 3501),
    "pong too many": (CENTRIFUGE, HELLO + asking(), 3501),
    "no handler": (CENTRIFUGE, HELLO + asking(send={"data": 1}), 3508),
    "forged token": (CENTRIFUGE, asking(id=1, connect={"token": "x.y.z"}), 3500),
    "forged refresh": (CENTRIFUGE, HELLO + asking(id=2, refresh={"token": "x"}), 3500),
    "flood": (CENTRIFUGE, HELLO + masked(TEXT, b"\n".join([UNSUBSCRIBE] * 1000)), 3013),
    "plain, surrogate": (PLAIN, masked(TEXT, b"\xed\xa0\x80"), 1007),
    "plain, message in a message": (PLAIN, b"\x01\x80....\x81\x80....", 1002),
    "plain, unknown namespace": ("/ws/nowhere:x", b"", 3501),
    "plain, closed namespace": ("/ws/closed:x", b"", 3507),
    "plain, forged token": ("/ws/x?token=forged", b"", 3500),
}


@pytest.mark.parametrize(("path", "stream", "code"), OFFENCES.values(), ids=OFFENCES.keys())
def test_an_offence_has_its_code_and_its_counter(neighbours: Neighbours, path: str, stream: bytes, code: int) -> None:
    before = neighbours.troubles()
    with RawClient(neighbours.address) as client:
        assert b" 101 " in client.upgrade(path)
        with contextlib.suppress(ConnectionError):
            client.send(stream)
        assert client.close_code() == code
    neighbours.check()
    assert neighbours.troubles() > before
    neighbours.wait_until_alone()


UPGRADE = handshake(CENTRIFUGE)
REQUESTS = {
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "long header": (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 3000, 431),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 50, 431),
    "long target": (b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\n", 414),
    "negative length": (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "old version": (UPGRADE.replace(b"Version: 13", b"Version: 8"), 426),
    "bad key": (UPGRADE.replace(b"Sec-WebSocket-Key: d", b"Sec-WebSocket-Key: "), 400),
    "foreign origin": (handshake(CENTRIFUGE, ["Origin: https://evil.example"]), 403),
}


@pytest.mark.parametrize(("request_", "status"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_that_breaks_the_rules(neighbours: Neighbours, request_: bytes, status: int) -> None:
    before = neighbours.troubles()
    with RawClient(neighbours.address) as client:
        client.send(request_)
        assert client.status() == status
    neighbours.check()
    assert neighbours.troubles() == before + 1
    neighbours.wait_until_alone()


# Garbage


class Garbage:
    """Streams of a client that is out of its mind, each time the same for a seed."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def request(self) -> bytes:
        """A request, sound or not; or nothing like it."""
        sound = self._random.choice([UPGRADE, handshake(PLAIN), b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"])
        return self._random.choice([sound, self._damaged(sound), self._random.randbytes(200)])

    def frames(self) -> bytes:
        """Frames, most of which say something that a client may say."""
        frames = [self._frame() for _ in range(self._random.randint(0, 6))]
        stream = b"".join([HELLO, *frames] if self._random.random() < 0.8 else frames)
        return self._damaged(stream) if self._random.random() < 0.3 else stream

    def pieces(self, stream: bytes) -> Iterator[bytes]:
        """The stream, cut anywhere."""
        start = 0
        while start < len(stream):
            end = start + self._random.choice([1, 7, 50, 1000])
            yield stream[start:end]
            start = end

    def end(self, client: RawClient) -> None:
        """Leave, in one way or another."""
        match self._random.randrange(3):
            case 0:
                client.reset()
            case 1:
                client.socket.shutdown(socket.SHUT_WR)
                client.rest()

    def _frame(self) -> bytes:
        payload = b"\n".join(self._command() for _ in range(self._random.randint(1, 3)))
        if self._random.random() < 0.1:
            payload = self._damaged(payload)
        opcode = self._random.choices([TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE], [40, 2, 1, 2, 2, 1])[0]
        return masked(opcode, payload[:125] if opcode & 0x8 else payload, fin=self._random.random() < 0.97)

    def _command(self) -> bytes:
        fields: dict[str, list[Any]] = {
            "token": ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.e30."],
            "data": [None, 1, "text", [1], {"a": 1}],
            "unknown": [None],
        }
        chosen = self._random.sample(sorted(fields), self._random.randint(0, 3))
        body = {
            "channel": self._random.choice(CHANNELS),
            **{name: self._random.choice(fields[name]) for name in chosen},
        }
        name = self._random.choices(list(NAMES), list(NAMES.values()))[0]
        return json.dumps({"id": self._random.randint(0, 40), name: body}).encode()

    def _damaged(self, sound: bytes) -> bytes:
        data = bytearray(sound)
        for _ in range(self._random.randint(1, 4)):
            place = self._random.randint(0, len(data))
            data[place : place + self._random.randint(0, 3)] = self._random.randbytes(self._random.randint(0, 3))
        return bytes(data)


CHANNELS = ("garbage", "garbage2", "", "nowhere:x", "closed:x", "$x", "a#b", "\u00e4", "x" * 300)
# Commands, and how often; behind those of the last line nothing else is served.
NAMES = {
    **dict.fromkeys(("subscribe", "publish"), 9),
    **dict.fromkeys(("unsubscribe", "sub_refresh", "history", "presence", "rpc"), 3),
    **dict.fromkeys(("connect", "send", "refresh", "dance"), 1),
}


@pytest.mark.parametrize("seed", range(10))
def test_garbage_in_a_websocket(neighbours: Neighbours, seed: int) -> None:
    """Of either protocol, in pieces of any size, from clients that leave in any way."""
    garbage = Garbage(seed)
    for path in (CENTRIFUGE, CENTRIFUGE, CENTRIFUGE, PLAIN) * 5:
        with RawClient(neighbours.address) as client:
            assert b" 101 " in client.upgrade(path)
            with contextlib.suppress(OSError):
                for piece in garbage.pieces(garbage.frames()):
                    client.send(piece)
                garbage.end(client)
        neighbours.check()


@pytest.mark.parametrize("seed", range(10))
def test_garbage_from_the_first_byte(neighbours: Neighbours, seed: int) -> None:
    garbage = Garbage(1000 + seed)
    for _ in range(20):
        with RawClient(neighbours.address) as client, contextlib.suppress(OSError):
            for piece in garbage.pieces(garbage.request() + garbage.frames()):
                client.send(piece)
            garbage.end(client)
        neighbours.check()


def test_after_all_that_the_node_holds_nothing_and_has_counted_it(neighbours: Neighbours) -> None:
    """Errors, refusals and closes, each in its place; by now the log has reached its limits."""
    neighbours.wait_until_alone()
    assert neighbours.counted("gateway_protocol_errors_total") > 50
    assert neighbours.counted("gateway_connections_closed_total") > 50
    assert neighbours.counted("gateway_command_errors_total") > 50
