"""TLS without a proxy: sessions inside, and handshakes that do not come."""

import asyncio
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.config.settings import LimitSettings
from gateway.metrics import Metrics
from gateway.transports.acceptor import Acceptor
from gateway.transports.admission import Admission
from gateway.transports.drain import Drain
from gateway.transports.http_options import HttpOptions
from tests.fakes import GUARD
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def certificate(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def site(certificate: ssl.SSLContext) -> Iterator[Site]:
    with fast_site(settings_of(), certificate) as running:
        yield running


@pytest.fixture
def hasty(certificate: ssl.SSLContext) -> Iterator[Site]:
    """A server that waits half a second for a handshake."""
    with fast_site(settings_of(header_timeout=0.5), certificate) as running:
        yield running


def wait_until_empty(site: Site) -> None:
    for _ in range(10_000):
        if site.call(lambda: site.admission.total) == 0:
            break
    assert site.admission.total == 0
    assert site.admission.unauthenticated == 0


# Clients in one thread: before Python 3.13, two that read and write the same TLS connection can lock up.


def test_sessions_run_inside_tls(site: Site, trusting: ssl.SSLContext) -> None:
    """Messages of all sizes, congestion, close."""

    async def test() -> None:
        url = f"wss://{site.url}/record"
        async with asyncio.timeout(60), connect(url, ssl=trusting, compression=None, proxy=None) as client:
            for size in (0, 10, 65_536):
                await client.send(b"x" * size)
                assert await client.recv() == b"x" * size
            await client.send("flood 5000")
            for _ in range(5000):
                assert await client.recv() == "x" * 1000
            await client.send("close 3500 bye")
            with pytest.raises(ConnectionClosed):
                await client.recv()

    asyncio.run(test())
    site.last.wait_for("closed", 3500, "bye")
    wait_until_empty(site)


def test_a_violation_inside_tls_is_told(site: Site, trusting: ssl.SSLContext) -> None:
    """Though TLS cannot close one direction alone."""

    async def test() -> None:
        async with asyncio.timeout(60), connect(f"wss://{site.url}/record", ssl=trusting, proxy=None) as client:
            await client.send(b"\xff", text=True)
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1007

    asyncio.run(test())


def test_requests_are_answered_inside_tls(site: Site, trusting: ssl.SSLContext) -> None:
    """HTTP has the same certificate."""
    with httpx.Client(verify=trusting) as client:
        assert client.get(f"https://{site.url}/hello").text == "hello"


@pytest.mark.parametrize("start", [b"", b"\x16\x03\x01"], ids=["silent", "unfinished"])
def test_a_handshake_that_does_not_come_ends(hasty: Site, start: bytes) -> None:
    """It counts as unauthenticated meanwhile, and as an error then."""
    before = hasty.metrics.protocol_errors.values.get("tls", 0)
    wait_until_empty(hasty)
    with RawClient(hasty.address) as client:
        client.send(start)
        while hasty.call(lambda: hasty.admission.unauthenticated) == 0:
            pass
        assert client.rest() == b""
    wait_until_empty(hasty)
    assert hasty.metrics.protocol_errors.values["tls"] == before + 1


def test_what_is_no_tls_is_dropped(site: Site) -> None:
    """Plain HTTP on the encrypted port."""
    with RawClient(site.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        assert b"HTTP" not in client.rest()
    wait_until_empty(site)


def test_a_reset_during_the_handshake_disturbs_nobody(site: Site, trusting: ssl.SSLContext) -> None:
    """At any point of it."""
    for _ in range(20):
        client = RawClient(site.address)
        client.send(b"\x16\x03\x01\x02\x00")
        client.reset()
    wait_until_empty(site)
    test_requests_are_answered_inside_tls(site, trusting)


def test_silent_connections_do_not_use_up_the_descriptors(certificate: ssl.SSLContext) -> None:
    """They count from the TCP connection on; far above the limit they are not even listened to."""
    with fast_site(settings_of(connections=5, header_timeout=10), certificate) as site:
        silent = [socket.create_connection(site.address) for _ in range(5 + 128)]
        with RawClient(site.address) as client:
            assert client.rest() == b""
        assert site.call(lambda: site.admission.total) <= 5 + 128 + 1
        assert site.metrics.refused.values == {"connections": 1}
        for each in silent:
            each.close()
        wait_until_empty(site)


def test_a_handshake_under_way_does_not_hold_up_the_end(certificate: ssl.SSLContext) -> None:
    """The server ends though somebody connects and says nothing."""
    arrived = threading.Event()
    with fast_site(settings_of(header_timeout=30), certificate) as site:
        client = RawClient(site.address)
        while site.call(lambda: site.admission.total) == 0:
            arrived.wait(0.01)
    assert client.rest() == b""
    client.socket.close()


def test_a_system_without_descriptors_is_asked_again_later(
    certificate: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listener stays readable meanwhile, and must not keep the loop busy."""

    class Exhausted(socket.socket):
        failures = 1

        def accept(self) -> tuple[socket.socket, Any]:
            if self.failures:
                self.failures -= 1
                raise OSError(errno.EMFILE, "no descriptors")
            return super().accept()

    monkeypatch.setattr("gateway.transports.acceptor.EXHAUSTED_DELAY", 0.01)

    async def run() -> None:
        metrics = Metrics()
        admission = Admission(LimitSettings(connections=1), metrics)
        acceptor = Acceptor(
            lambda: pytest.fail("no handshake succeeds here"),
            HttpOptions(LimitSettings(header_timeout=1.0), drain=Drain(0, GUARD), metrics=metrics, admission=admission),
            certificate,
        )
        with Exhausted() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.setblocking(False)
            acceptor.listen(listener, 10)
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            while listener.failures:
                await asyncio.sleep(0.001)
            admission.limit = -1000
            assert await reader.read() == b""
            writer.close()
            acceptor.close()

    asyncio.run(run())
