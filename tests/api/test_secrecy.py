"""Nothing secret reaches the log of a node, whatever is sent to it and wherever it is put."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from gateway.tokens import connection_token, subscription_token
from tests.transports.raw import RawClient

SECRET = "hmac-Sw0rdfish-of-the-tests-longer-than-32-bytes"
KEY = "key-Sw0rdfish-of-the-tests-0123456789"
ORIGIN = "https://example.com"


class Server(NamedTuple):
    """A node as a process that logs everything it can."""

    public: str
    internal: str
    lines: list[str]
    process: "subprocess.Popen[str]"

    def stop(self) -> str:
        """The whole log."""
        self.process.terminate()
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        self.process.stderr.close()
        assert self.process.wait(10) == 0
        return "".join(self.lines) + rest


@pytest.fixture(params=["json", "human"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    environ = {
        "GATEWAY_LISTEN": "127.0.0.1:0",
        "GATEWAY_INTERNAL_LISTEN": "127.0.0.1:0",
        "GATEWAY_LOG__LEVEL": "debug",
        "GATEWAY_LOG__FORMAT": request.param,
        "GATEWAY_AUTH__HMAC_SECRET": SECRET,
        "GATEWAY_AUTH__COOKIE": "sid",
        "GATEWAY_API__KEYS": json.dumps([KEY]),
        "GATEWAY_ORIGINS__ALLOWED": json.dumps([ORIGIN]),
        "GATEWAY_DRAIN__WINDOW": "0",
    }
    command = [sys.executable, "-m", "gateway", "serve"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **environ})
    assert process.stderr is not None
    lines: list[str] = []
    try:
        while "serving" not in (lines[-1] if lines else ""):
            line = process.stderr.readline()
            assert line, "".join(lines)
            lines.append(line)
        addresses = [part.split("://")[1].strip('",} \n') for part in lines[-1].split() if "://" in part]
        yield Server(addresses[0], addresses[1], lines, process)
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def connected(server: Server, path: str, **options: Any) -> None:
    """Connect, say something and wait for what comes of it."""
    url = f"ws://{server.public}{path}"
    given = {"compression": None, "proxy": None, "origin": ORIGIN, **options}
    with suppress(WebSocketException, TimeoutError), connect(url, **given) as client:
        client.send("hello")
        while True:
            client.recv(0.05)


def test_no_secret_is_ever_logged(server: Server) -> None:
    """Good tokens and bad ones, in all their places and in some that are none; API keys, right and wrong."""
    tokens = [
        connection_token(SECRET, "ada"),
        connection_token(SECRET, "ada", expires_in=-10),
        connection_token("another-Sw0rdfish-longer-than-32-bytes", "ada"),
        subscription_token(SECRET, "ada", "$private"),
        "opaque-Sw0rdfish-token",
        connection_token(SECRET, "ada").replace(".", "-Sw0rdfish-"),
    ]
    for token in tokens:
        quoted = quote(token, safe="")
        for path in ("/ws/news", "/ws/$private"):
            connected(server, f"{path}?token={quoted}")
            connected(server, path, subprotocols=["token", token])
            connected(server, path, additional_headers={"Authorization": f"Bearer {token}"})
            connected(server, path, additional_headers={"Cookie": f"sid={token}"})
        connected(server, f"/ws/news?token={quoted}", origin="null")
        _native(server, token)
        host, _, port = server.public.rpartition(":")
        for request in (f"GET /ws/news?token={token} HTTP/1.1", f"GET /ws/news?token={token} HTTP/9", f"{token}"):
            with RawClient((host, int(port))) as client:
                client.send(
                    f"{request}\r\nHost: a\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
                )
                client.rest()
    # At once: a wrong key is answered late.
    with ThreadPoolExecutor() as pool:
        posts = []
        for key in (KEY, "wrong-Sw0rdfish"):
            for address in (server.public, server.internal):
                for headers in ({"X-API-Key": key}, {"Authorization": f"apikey {key}"}):
                    for body in (b'{"channel":"news","data":1}', b"{", b'{"channel":"nowhere:a","data":1}'):
                        url = f"http://{address}/api/publish?api_key={key}&token={key}"
                        posts.append(pool.submit(httpx.post, url, content=body, headers=headers, trust_env=False))
    assert {post.result().status_code for post in posts} >= {200, 401}
    log = server.stop()
    assert "/ws/news" in log or "connection closed" in log
    for secret in (*tokens, SECRET, KEY):
        for part in (secret, quote(secret, safe=""), *secret.split(".")[1:]):
            assert part not in log
    assert "Sw0rdfish" not in log


def _native(server: Server, token: str) -> None:
    url = f"ws://{server.public}/connection/websocket"
    with suppress(WebSocketException, TimeoutError), connect(url, compression=None, proxy=None) as client:
        for command in ({"id": 1, "connect": {"token": token}}, {"id": 2, "refresh": {"token": token}}):
            client.send(json.dumps(command))
        client.send(json.dumps({"id": 3, "subscribe": {"channel": "$private", "token": token}}))
        client.send(json.dumps({"id": 4, "connect": {"token": token}})[:-1])
        while True:
            client.recv(0.05)
