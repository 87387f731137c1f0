"""RFC 6455, case by case, of both ways in which a WebSocket is served."""

import socket
from collections.abc import Iterable, Iterator

import pytest

from tests.transports.conftest import Site, asgi_site, fast_site, settings_of
from tests.transports.raw import handshake, masked
from tests.transports.websocket.cases import BINARY, CLOSE, TEXT, Case, Frame, all_cases, fails, fragments
from tests.transports.websocket.echo import echo_app

MIB = 1024 * 1024
SETTINGS = settings_of(message_size=16 * MIB, fragments=70_000)
NORMAL = fails(1000)

# What uvicorn's own class does otherwise: it looks at text when the message is complete, and takes a close frame
# within a message for an error.
DEVIATIONS = ("6.4.1", "6.4.2", "6.4.3", "6.4.4", "7.1.5")
# Group 9: the ends of what it sends as one message, and sizes between them.
SIZES = (64 * 1024, 256 * 1024, MIB, 4 * MIB, 16 * MIB)
FRAGMENTS = (pytest.param(64, marks=pytest.mark.slow), 1024, 64 * 1024, MIB)
CHOPS = (64, 1024, 2048)


class Peer:
    """A client that writes pieces and reads frames."""

    def __init__(self, site: Site) -> None:
        self._socket = site.connect()
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(handshake("/"))
        assert b" 101 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._socket.close()

    def send(self, pieces: Iterable[bytes]) -> None:
        try:
            for piece in pieces:
                self._socket.sendall(piece)
        except ConnectionError:
            # The server has failed the connection meanwhile.
            return

    def read(self) -> Frame | None:
        """The next frame, None at the end."""
        try:
            first, second = self._file.read(2)
            if second > 125:
                second = int.from_bytes(self._file.read(2 if second == 126 else 8), "big")
            return first & 0x0F, self._file.read(second)
        except (ConnectionError, ValueError):
            return None


@pytest.fixture(scope="module")
def fast() -> Iterator[Site]:
    with fast_site(SETTINGS, app=echo_app(SETTINGS)) as running:
        yield running


@pytest.fixture(scope="module")
def plain() -> Iterator[Site]:
    with asgi_site(SETTINGS, app=echo_app(SETTINGS)) as running:
        yield running


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
def test_the_fast_path(fast: Site, case: Case) -> None:
    """Strictly: each answer in its order, and the close frame that the RFC names, without waiting for more."""
    with Peer(fast) as peer:
        peer.send(case.pieces)
        assert [peer.read() for _ in case.answers] == list(case.answers)
        if case.close is None:
            peer.send([masked(CLOSE, NORMAL)])
        closing = peer.read()
        assert closing is not None
        assert closing[0] == CLOSE
        assert closing[1][:2] == (NORMAL if case.close is None else case.close)
        assert peer.read() is None


@pytest.mark.parametrize(
    "case", [case for case in all_cases() if case.name not in DEVIATIONS], ids=lambda case: case.name
)
def test_plain_asgi(plain: Site, case: Case) -> None:
    """Where a server of others reads the frames: it may lose the answers to what came before an error."""
    with Peer(plain) as peer:
        peer.send(case.pieces)
        answers = list(case.answers)
        if case.close is None:
            assert [peer.read() for _ in answers] == answers
            peer.send([masked(CLOSE, NORMAL)])
            assert peer.read() == (CLOSE, NORMAL)
        else:
            got = list(iter(peer.read, None))
            assert got[:-1] in (answers[: len(got) - 1], [])
            assert got[-1][0] == CLOSE
            assert got[-1][1][:2] == case.close
        assert peer.read() is None


@pytest.fixture(params=["fast", "plain"])
def site(request: pytest.FixtureRequest) -> Site:
    running: Site = request.getfixturevalue(request.param)
    return running


def echoed(site: Site, opcode: int, payload: bytes, pieces: Iterable[bytes]) -> None:
    """One message there and back, and a clean end."""
    with Peer(site) as peer:
        peer.send(pieces)
        assert peer.read() == (opcode, payload)
        peer.send([masked(CLOSE, NORMAL)])
        assert peer.read() == (CLOSE, NORMAL)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", SIZES)
def test_large_messages(site: Site, opcode: int, size: int) -> None:
    """9.1 and 9.2."""
    payload = (b"*" if opcode == TEXT else b"\xfe") * size
    echoed(site, opcode, payload, [masked(opcode, payload)])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", FRAGMENTS)
def test_large_messages_in_fragments(site: Site, opcode: int, size: int) -> None:
    """9.3 and 9.4: 4 MiB."""
    payload = (b"*" if opcode == TEXT else b"\xfe") * (4 * MIB)
    echoed(site, opcode, payload, [b"".join(fragments(opcode, *cut(payload, size)))])


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", CHOPS)
def test_large_messages_in_pieces(site: Site, opcode: int, size: int) -> None:
    """9.5 and 9.6: 1 MiB in one frame."""
    payload = (b"*" if opcode == TEXT else b"\xfe") * MIB
    echoed(site, opcode, payload, cut(masked(opcode, payload), size))


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
def test_many_messages_there_and_back(site: Site, opcode: int, size: int) -> None:
    """9.7 and 9.8: one after the other."""
    payload = (b"*" if opcode == TEXT else b"\xfe") * size
    with Peer(site) as peer:
        for _ in range(250):
            peer.send([masked(opcode, payload)])
            assert peer.read() == (opcode, payload)


def test_fragments_of_a_network_packet(site: Site) -> None:
    """10.1.1: frames of 1,300 octets."""
    payload = b"*" * 65_536
    echoed(site, TEXT, payload, fragments(TEXT, *cut(payload, 1300)))


def test_no_extension_is_negotiated(fast: Site) -> None:
    """12 and 13 are about permessage-deflate, which is off by default."""
    with fast.connect() as client, client.makefile("rb") as file:
        client.sendall(handshake("/", ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]))
        head = b"".join(iter(file.readline, b"\r\n"))
    assert b" 101 " in head
    assert b"sec-websocket-extensions" not in head.lower()
