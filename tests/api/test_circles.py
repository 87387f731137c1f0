"""What is refused leaves memory at once: nothing of it waits in a circle for the garbage collector.

Whoever sends many such requests would otherwise fill the memory of the node between two of its runs.
"""

import gc
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.api.clients import Native, close_of, plain
from tests.api.site import SECRET, Site, running, settings_of
from tests.auth.signing import sign
from tests.transports.raw import RawClient, handshake

ORIGIN = "https://example.com"
COOKIE = "c" * 4000


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    kept = {"delivery": "recoverable", "allow_history": ["anonymous"], "allow_subscribe": ["anonymous"]}
    sections: dict[str, Any] = {
        "auth": {"hmac_secret": SECRET, "anonymous": True, "cookie": "session"},
        "origins": {"allowed": [ORIGIN]},
        "namespaces": {"kept": kept},
    }
    with running(settings_of(**sections)) as node:
        yield node


def opened(site: Site) -> ClientConnection:
    url = f"ws://{site.public}/connection/websocket"
    return connect(url, proxy=None, compression=None, origin=Origin(ORIGIN))


def raw(site: Site, request: bytes) -> None:
    host, _, port = site.public.partition(":")
    with RawClient((host, int(port))) as client:
        client.send(request)
        assert client.head()


def native(site: Site, **command: Any) -> None:
    with opened(site) as socket:
        Native(socket, "").command(**command)


def refused_connect(site: Site) -> None:
    with opened(site) as socket:
        token = sign({"sub": "u"}, "another secret of at least 32 bytes")
        socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert close_of(socket)[0] == 3500


def expired_connect(site: Site) -> None:
    with opened(site) as socket:
        token = sign({"sub": "u", "exp": 1}, SECRET)
        socket.send(json.dumps({"id": 1, "connect": {"token": token}}))
        assert '"code":109' in str(socket.recv(10))


def plain_token(site: Site) -> None:
    with plain(site, "kept:a", "?token=x.y.z", origin=ORIGIN) as client:
        close_of(client)


REFUSED: dict[str, Callable[[Site], None]] = {
    "cookie": lambda site: raw(site, handshake("/ws/x", ["Origin: " + ORIGIN, "Cookie: session=" + COOKIE])),
    "token of connect": refused_connect,
    "expired token": expired_connect,
    "token of a plain client": plain_token,
    "subscription token": lambda site: native(site, subscribe={"channel": "kept:b", "token": "a.b.c"}),
    "channel": lambda site: native(site, subscribe={"channel": "nowhere:b"}),
    "publish": lambda site: native(site, publish={"channel": "kept:b", "data": 1}),
    "history": lambda site: native(
        site, history={"channel": "kept:b", "limit": 1, "since": {"offset": 9, "epoch": "?"}}
    ),
    "command": lambda site: native(site, rpc={"method": "none"}),
    "long target": lambda site: raw(site, b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n"),
    "malformed request": lambda site: raw(site, b"GET / HTTP/1.1\r\nno colon\r\n\r\n"),
    "API key": lambda site: raw(site, b"POST /api/info HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"),
    "path": lambda site: raw(site, b"GET /nowhere HTTP/1.1\r\nConnection: close\r\n\r\n"),
}


@contextmanager
def circles() -> Iterator[list[object]]:
    """Objects that only the garbage collector could free since."""
    found: list[object] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        found += gc.garbage
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_leaves_no_circle(site: Site, kind: str) -> None:
    # What is made once, such as a compiled pattern.
    REFUSED[kind](site)
    with circles() as found:
        for _ in range(3):
            REFUSED[kind](site)
        while site.call(lambda: site.gateway.admission.total):
            pass
    # (The client in this process leaves its own.)
    assert [each for each in found if type(each).__module__.startswith("gateway")] == []
    assert [each for each in found if type(each) is FrameType and "/gateway/" in each.f_code.co_filename] == []
