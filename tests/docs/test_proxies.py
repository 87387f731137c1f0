"""The configurations of docs/deploy.md in the programs that they are for, in front of a node."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from websockets.asyncio.client import connect
from websockets.typing import Origin

from gateway import Gateway
from gateway.config.sources import read
from tests.api.site import OPEN, SECRET, Site, running, settings_of
from tests.docs.pages import files
from tests.entrances.ways import on_uvicorn
from tests.servers import free_port

pytestmark = pytest.mark.slow

FILES = files("deploy")
HOST = "chat.example.com"
START_SECONDS = 20.0


def program(name: str) -> str:
    """The path of a program, or a skip."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/usr/bin")
    if path is None:
        pytest.skip(f"no {name} (Debian has a package of it)")
    return path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def node() -> Iterator[Site]:
    with running(settings_of(trusted_proxies=["127.0.0.1"], origins={"allowed": [f"https://{HOST}"]})) as site:
        yield site


def nginx(folder: Path, text: str, port: int) -> list[str]:
    text = text.replace("listen 443", f"listen 127.0.0.1:{port}")
    text = text.replace("/etc/ssl/chat.key", str(folder / "chat.pem"))
    paths = "".join(
        f"{each}_temp_path {folder / each}; " for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = f"daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; {paths}\n{text}\n}}"
    (folder / "config").write_text(whole)
    return [program("nginx"), "-e", "stderr", "-p", str(folder), "-c", str(folder / "config")]


def caddy(folder: Path, text: str, port: int) -> list[str]:
    text = text.replace(f"{HOST} {{", f"https://{HOST}:{port} {{\n\ttls {folder}/chat.pem {folder}/chat.pem", 1)
    whole = f"{{\n\tadmin off\n\tauto_https disable_redirects\n\tskip_install_trust\n}}\n{text}"
    (folder / "config").write_text(whole)
    return [program("caddy"), "run", "--adapter", "caddyfile", "--config", str(folder / "config")]


def haproxy(folder: Path, text: str, port: int) -> list[str]:
    (folder / "config").write_text(text.replace("bind :443", f"bind 127.0.0.1:{port}"))
    return [program("haproxy"), "-db", "-f", str(folder / "config")]


PROXIES = {"nginx.conf": nginx, "nginx-app.conf": nginx, "Caddyfile": caddy, "haproxy.cfg": haproxy}


@contextmanager
def in_front(name: str, address: str, authority: trustme.CA, folder: Path) -> Iterator[int]:
    """The port of a proxy with the configuration of the page, but for ports and certificate."""
    authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(folder / "chat.pem")
    text = FILES[name].replace("/etc/ssl/chat.pem", str(folder / "chat.pem"))
    dead = f"127.0.0.1:{free_port()}"
    text = text.replace("127.0.0.1:8001", address).replace("127.0.0.1:8002", dead)
    port = free_port()
    command = PROXIES[name](folder, text, port)
    process = subprocess.Popen(command, env={**os.environ, "HOME": str(folder)}, stdin=subprocess.DEVNULL)
    try:
        await_port(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()


def await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, "the proxy ended"
        assert time.monotonic() < deadline, "the proxy does not listen"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)


@pytest.mark.parametrize("name", [name for name in PROXIES if name != "nginx-app.conf"])
def test_clients_come_through_and_nothing_else(name: str, node: Site, authority: trustme.CA, tmp_path: Path) -> None:
    """Over TLS, though one of the two nodes is down."""
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with in_front(name, node.public, authority, tmp_path) as port:
        for _ in range(4):
            subscribe(port, trusted, "/connection/websocket")
            assert status(port, trusted, "/socket.io/?EIO=4&transport=polling") == 200
        for path in ("/metrics", "/api/info", "/health/ready", "/"):
            assert status(port, trusted, path) == 404, path


def test_an_application(authority: trustme.CA, tmp_path: Path) -> None:
    """Its routes, its clients and their health come through; its API does not."""
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    settings = {
        "auth": {"anonymous": True},
        "namespaces": {"chat": OPEN},
        "origins": {"allowed": [f"https://{HOST}"]},
    }
    gateway = Gateway(settings)
    routes = [Route("/", lambda request: PlainTextResponse("hello")), Mount("/realtime", gateway)]
    app = Starlette(routes=routes, lifespan=gateway.lifespan)
    with on_uvicorn(lambda: app) as address, in_front("nginx-app.conf", address, authority, tmp_path) as port:
        subscribe(port, trusted, "/realtime/connection/websocket")
        answers = {"/": 200, "/realtime/health/ready": 200, "/realtime/api/info": 404, "/health/ready": 404}
        assert {path: status(port, trusted, path) for path in answers} == answers


def subscribe(port: int, trusted: ssl.SSLContext, path: str) -> None:
    asyncio.run(_subscribe(port, trusted, path))


async def _subscribe(port: int, trusted: ssl.SSLContext, path: str) -> None:
    """In one thread: before Python 3.13, two that read and write the same TLS connection can lock up."""
    async with (
        asyncio.timeout(START_SECONDS),
        connect(
            f"wss://{HOST}:{port}{path}",
            host="127.0.0.1",
            port=port,
            ssl=trusted,
            origin=Origin(f"https://{HOST}"),
            proxy=None,
        ) as client,
    ):
        await client.send('{"id":1,"connect":{}}\n{"id":2,"subscribe":{"channel":"chat:lobby"}}')
        text = ""
        while '"id":2' not in text:
            text = str(await client.recv())
        assert '"subscribe":' in text


def status(port: int, trusted: ssl.SSLContext, path: str) -> int:
    """What a GET is answered with."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        trusted.wrap_socket(raw, server_hostname=HOST) as link,
    ):
        link.sendall(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        return int(link.makefile("rb").readline().split()[1])


@pytest.mark.parametrize("of_an_application", [False, True])
def test_the_unit(tmp_path: Path, *, of_an_application: bool) -> None:
    """systemd has nothing to object."""
    (tmp_path / "gateway@8001.service").write_text(
        FILES["gateway@.service"].replace("/opt/gateway/bin/gateway", sys.executable)
    )
    if of_an_application:
        name = "gateway@8001.service.d/app.conf"
        (tmp_path / name).parent.mkdir()
        text = FILES[name.replace("8001", "")].replace("/opt/gateway/bin/gateway", sys.executable)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        [program("systemd-analyze"), "verify", str(tmp_path / "gateway@8001.service")], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_settings(tmp_path: Path) -> None:
    """With the secrets from the environment and the flags of the unit."""
    (tmp_path / "gateway.toml").write_text(FILES["gateway.toml"])
    secrets = {"GATEWAY_AUTH__HMAC_SECRET": SECRET, "GATEWAY_API__KEYS": SECRET.replace(",", "")}
    settings = read(tmp_path / "gateway.toml", {"listen": "127.0.0.1:8001"}, secrets).settings
    assert settings.drain.delay + settings.drain.window < 30
