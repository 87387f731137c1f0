"""A server from its start to its end, as a process that gets signals, and embedded in somebody else's uvicorn."""

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gateway import listeners
from gateway.config.settings import DrainSettings, ServerSettings, TlsSettings
from gateway.errors import ConfigError, GatewayError
from gateway.metrics import Metrics
from gateway.transports.admission import Admission
from gateway.transports.drain import Drain
from gateway.transports.embedding import http_protocol
from gateway.transports.http_options import HttpOptions
from gateway.transports.server import serve
from gateway.transports.tls import tls_context
from tests.fakes import GUARD
from tests.transports.conftest import Site, fast_site, settings_of
from tests.transports.raw import RawClient, handshake, masked


class Process:
    """A node process and what it says."""

    def __init__(self, **options: Any) -> None:
        command = [sys.executable, "-m", "tests.transports.node", json.dumps(options)]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `kill`
        self._popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log)
        self.steps: list[str] = []
        self.wait_for("started")
        line = self._line()
        self.public = (line["public"][0], line["public"][1])
        self.internal = (line["internal"][0], line["internal"][1])

    def _line(self) -> dict[str, Any]:
        assert self._popen.stdout is not None
        line: dict[str, Any] = json.loads(self._popen.stdout.readline() or b'{"step": "gone"}')
        return line

    def wait_for(self, step: str) -> None:
        """Read until it says so."""
        while not self.steps or self.steps[-1] != step:
            said = self._line().get("step", "")
            assert said != "gone", self.steps
            self.steps.append(said)

    def log(self) -> str:
        """What it has logged so far."""
        self._log.seek(0)
        return self._log.read()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self._popen.pid, number)

    def end(self) -> int:
        """Its exit code."""
        try:
            code = self._popen.wait(15)
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        assert self._popen.stdout is not None
        self._popen.stdout.close()
        self._log.close()


@contextmanager
def process(**options: Any) -> Iterator[Process]:
    running = Process(**options)
    try:
        yield running
    finally:
        running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_node_in_order(number: signal.Signals) -> None:
    """Not ready, connections told to come back, the application stopped, exit code 0."""
    with process(drain={"window": 0}) as node, RawClient(node.public) as client:
        assert b" 101 " in client.upgrade()
        node.signal(number)
        node.wait_for("draining")
        assert client.close_code() == 3001
        client.send(masked(0x8, b"\x0b\xb9"))
        node.wait_for("stopping")
        node.wait_for("ended")
        assert node.end() == 0


def test_the_node_still_serves_during_the_delay() -> None:
    """Balancers need time to notice; until then new connections are accepted."""
    with process(drain={"delay": 0.5, "window": 0}) as node:
        node.signal(signal.SIGTERM)
        node.wait_for("draining")
        with RawClient(node.public) as client:
            assert b" 101 " in client.upgrade()
            assert client.close_code() == 3001
        node.wait_for("ended")


def test_the_internal_listener_answers_during_the_drain() -> None:
    """Health and metrics stay visible; the public listener is closed."""
    with process(drain={"window": 30}) as node:
        clients = [RawClient(node.public) for _ in range(2)]
        for client in clients:
            client.upgrade()
        node.signal(signal.SIGTERM)
        closed = next(client for client in clients if client.socket in _readable(clients))
        assert closed.close_code() == 3001
        with pytest.raises(ConnectionRefusedError):
            RawClient(node.public)
        assert httpx.get(f"http://127.0.0.1:{node.internal[1]}/health").text == "fine"
        node.signal(signal.SIGTERM)
        assert node.end() == -signal.SIGTERM
        for client in clients:
            client.socket.close()


def _readable(clients: list[RawClient]) -> list[socket.socket]:
    return select.select([client.socket for client in clients], [], [], 10)[0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_the_node_at_once(number: signal.Signals) -> None:
    """Whatever it waits for."""
    with process(drain={"window": 0}, stuck=True) as node:
        node.signal(number)
        node.wait_for("stopping")
        node.signal(number)
        assert node.end() == -number


@pytest.mark.slow
def test_requests_under_way_are_finished() -> None:
    """And connections that only wait for the next request are closed."""
    with process(drain={"window": 1}) as node, RawClient(node.public) as busy, RawClient(node.public) as idle:
        idle.send(b"GET /hello HTTP/1.1\r\nHost: test\r\n\r\n")
        assert idle.status() == 200
        busy.send(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n")
        node.wait_for("slow")
        node.signal(signal.SIGTERM)
        assert idle.rest() == b"hello"
        assert busy.status() == 200
        assert busy.rest() == b"at last"
        node.wait_for("ended")


@pytest.mark.slow
def test_what_does_not_end_in_time_is_dropped() -> None:
    """A client that ignores the close frame, and a silent connection."""
    with process(drain={"window": 0}) as node, RawClient(node.public) as client, RawClient(node.public) as silent:
        client.upgrade()
        node.signal(signal.SIGTERM)
        assert client.close_code() == 3001
        node.wait_for("ended")
        assert silent.rest() == b""


@pytest.mark.slow
@pytest.mark.parametrize("path", ["never", "stubborn"])
def test_a_request_that_does_not_end_is_dropped(path: str) -> None:
    """Even if it loses cancellations. Without a traceback in the log: it is no error of the application."""
    with process(drain={"window": 0}) as node, RawClient(node.public) as busy:
        busy.send(b"GET /%b HTTP/1.1\r\nHost: test\r\n\r\n" % path.encode())
        node.wait_for("slow")
        node.signal(signal.SIGTERM)
        node.wait_for("ended")
        assert busy.rest() == b""
        assert "dropping 1 connections and 1 requests" in node.log()
        assert "Traceback" not in node.log()


def test_a_handshake_under_way_is_answered_at_the_end() -> None:
    """With 503, and the application hears of a disconnect."""
    seen: list[Any] = []
    waiting = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting.set()
        seen.append(await receive())

    with fast_site(settings_of(), app=app) as site:
        client = RawClient(site.address)
        client.send(handshake())
        assert waiting.wait(10)
    assert client.status() == 503
    client.socket.close()
    assert seen[0]["type"] == "websocket.disconnect"


def test_ordinary_routes_are_told_to_restart() -> None:
    """Their connections close with 1012, as under uvicorn's own class."""
    with fast_site(settings_of()) as site:
        client = RawClient(site.address)
        client.upgrade("/echo")
        client.send(masked(0x1, b"hello"))
        assert client.frame() == (0x1, b"hello")
    assert client.close_code() == 1012
    client.socket.close()


def test_it_works_embedded_in_a_plain_uvicorn_server() -> None:
    """`http=` is all that a server of somebody else needs: sessions, other routes, and the drain at its end."""
    settings = settings_of()
    site = Site(settings)
    listener = socket.create_server(("127.0.0.1", 0))
    site.address = listener.getsockname()
    options = HttpOptions(settings.limits, drain=site.drain, metrics=site.metrics, admission=site.admission)
    config = uvicorn.Config(site.app(), http=http_protocol(options), proxy_headers=False, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: uvloop.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        with RawClient(site.address) as client, RawClient(site.address) as other:
            assert b" 101 " in client.upgrade()
            assert b" 101 " in other.upgrade("/echo")
            server.should_exit = True
            assert client.close_code() == 3001
            assert other.close_code() == 1012
            client.send(masked(0x8, b"\x0b\xb9"))
            other.send(masked(0x8, b"\x03\xf4"))
        site.last.wait_for("closed", 3001, "shutdown")
        assert site.last.names() == ["opened", "shutdown", "closed"]
    finally:
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


# Starting


def run(settings: ServerSettings, app: Any, internal: Any = None) -> None:
    """Serve until the application's lifespan, or a listener, fails."""
    metrics, drain, limits = Metrics(), Drain(0, GUARD), settings.limits

    async def main() -> None:
        await serve(
            app,
            internal,
            settings,
            options=HttpOptions(limits, drain=drain, metrics=metrics, admission=Admission(limits, metrics)),
            internal_options=HttpOptions(limits, drain=drain, metrics=metrics),
            on_started=lambda: os.kill(os.getpid(), signal.SIGTERM),
        )

    asyncio.run(main())


def test_a_taken_port_is_refused_by_name() -> None:
    """The address and the setting, before the application starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} is in use .*setting listen\)"):
            run(ServerSettings(listen=f"127.0.0.1:{port}", internal_listen=""), Starlette())
        settings = ServerSettings(listen="127.0.0.1:0", internal_listen=f"127.0.0.1:{port}")
        with pytest.raises(ConfigError, match=r"setting internal_listen\)"):
            run(settings, Starlette(), Starlette())


def test_a_port_that_is_taken_between_bind_and_listen_is_refused_by_name() -> None:
    """Whoever listens second is told so, although its socket is closed by then."""
    with listeners.bind(["127.0.0.1:0"], "listen")[0] as first:
        port = first.getsockname()[1]

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            first.listen()
            yield

        with pytest.raises(ConfigError, match=rf"http://127\.0\.0\.1:{port} is in use .*setting listen\)"):
            run(ServerSettings(listen=f"127.0.0.1:{port}", internal_listen=""), Starlette(lifespan=lifespan))


@pytest.mark.parametrize(
    "listen", ["no-such-host.invalid:80", "192.0.2.1:80", "unix:/no/such/folder/socket", "unix:/" + "x" * 200]
)
def test_an_address_that_cannot_be_had_is_refused_by_name(listen: str) -> None:
    """Unknown hosts, foreign addresses, missing folders, paths that are too long; with the reason."""
    with pytest.raises(ConfigError, match=r"cannot be listened on.*setting listen\)") as caught:
        run(ServerSettings(listen=listen, internal_listen=""), Starlette())
    assert "Success" not in str(caught.value)


def test_errors_of_the_application_come_through() -> None:
    """As they are, so that the command line can show them."""

    class Fails:
        async def __aenter__(self) -> None:
            raise GatewayError("no Redis today")

        async def __aexit__(self, *exc: object) -> None:
            pass

    settings = ServerSettings(listen="127.0.0.1:0", internal_listen="")
    with pytest.raises(GatewayError, match="no Redis today"):
        run(settings, Starlette(lifespan=lambda app: Fails()))


def test_an_application_that_only_says_that_it_failed_is_an_error() -> None:
    """The lifespan protocol allows an answer without an exception."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        event = await receive()
        await send({"type": f"{event['type']}.failed", "message": "out of luck"})

    with pytest.raises(RuntimeError, match="out of luck"):
        run(ServerSettings(listen="127.0.0.1:0", internal_listen=""), app)


def test_unix_sockets_and_ipv6(tmp_path: Path) -> None:
    """Addresses of the other kinds; nothing is left behind."""
    path = tmp_path / "gateway.sock"
    answers: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            answers.append((await client.get("http://test/")).text)

    app = Starlette(lifespan=lifespan)
    internal = Starlette(routes=[Route("/", lambda request: PlainTextResponse("over the socket"))])
    for _ in range(2):
        run(
            ServerSettings(listen="[::1]:0", internal_listen=f"unix:{path}", drain=DrainSettings(window=0)),
            app,
            internal,
        )
        assert not path.exists()
    assert answers == ["over the socket"] * 2


def test_a_stale_unix_socket_is_replaced_and_a_used_one_is_not(tmp_path: Path) -> None:
    """A killed process leaves its file; a file that is no socket is left alone."""
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with listeners.bind([f"unix:{path}"], "listen")[0] as bound:
        bound.listen()
        with pytest.raises(ConfigError, match="in use"):
            listeners.bind([f"unix:{path}"], "listen")
        assert listeners.shown(bound, "http") == f"unix:{path}"
    path.unlink()
    path.write_text("precious")
    with pytest.raises(ConfigError, match="in use"):
        listeners.bind([f"unix:{path}"], "listen")
    assert path.read_text() == "precious"


def test_certificates_are_checked_at_the_start(tmp_path: Path) -> None:
    """Each mistake names its setting."""
    authority = trustme.CA()
    issued, other = authority.issue_cert("127.0.0.1"), authority.issue_cert("127.0.0.1")
    certificate, key, wrong, empty = (tmp_path / name for name in ("cert.pem", "key.pem", "wrong.pem", "empty.pem"))
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    wrong.write_bytes(other.private_key_pem.bytes())
    empty.write_bytes(b"")
    assert tls_context(TlsSettings()) is None
    assert tls_context(TlsSettings(certificate=certificate, key=key)) is not None
    for settings, message in (
        (TlsSettings(key=key), r"tls\.certificate is not"),
        (
            TlsSettings(certificate=tmp_path / "missing.pem", key=key),
            r"tls\.certificate: .*missing\.pem cannot be read",
        ),
        (TlsSettings(certificate=certificate, key=tmp_path / "missing.pem"), r"tls\.key: .* cannot be read"),
        (TlsSettings(certificate=certificate, key=wrong), r"are no certificate with its key: .*MISMATCH"),
        (TlsSettings(certificate=certificate), r"tls\.key \(unset\)"),
        (TlsSettings(certificate=empty, key=key), "are no certificate with its key"),
    ):
        with pytest.raises(ConfigError, match=message):
            tls_context(settings)


def test_a_key_with_a_passphrase_is_refused(tmp_path: Path) -> None:
    """OpenSSL would ask for it on the terminal, and hang without one."""
    from cryptography.hazmat.primitives import serialization

    issued = trustme.CA().issue_cert("127.0.0.1")
    certificate, encrypted = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    encrypted.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="passphrase"):
        tls_context(TlsSettings(certificate=certificate, key=encrypted))
