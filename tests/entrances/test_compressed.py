"""A node that compresses, with clients that are not ours: `websockets`, and `ws` below the npm SDK."""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from tests.api.clients import PATIENCE, close_of
from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.cluster.sdk import npm_client
from tests.entrances import ways
from tests.transports.raw import RawClient, masked

COMPRESSED: dict[str, Any] = {"enabled": True, "min_size": 256}
NAMESPACES = {"chat": {**OPEN, "delta": True}, "kept": {**OPEN, "delivery": "recoverable"}}
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(settings_of(compression=COMPRESSED, namespaces=NAMESPACES)) as node:
        yield node


@contextmanager
def client_of(site: Site, channel: str, **options: Any) -> Iterator[ClientConnection]:
    """A plain client whose subscription stands."""
    url = f"ws://{site.public}/ws/{channel}"
    with connect(url, proxy=None, open_timeout=PATIENCE, **options) as client:
        client.send("hello")
        while client.recv(PATIENCE) != "hello":
            pass
        yield client


def publish(site: Site, channel: str, data: object) -> None:
    body = {"channel": channel, "data": data}
    answer = httpx.post(
        f"http://{site.public}/api/publish", json=body, headers={"X-API-Key": KEY}, trust_env=False, timeout=PATIENCE
    )
    assert "result" in answer.json(), answer.text


def delivered(site: Site) -> float:
    return site.metric("gateway_delivered_bytes_total")


WAYS: list[dict[str, Any]] = [
    {"compression": "deflate"},
    {"compression": None},
    {"extensions": [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)]},
    {"extensions": [ClientPerMessageDeflateFactory(server_no_context_takeover=True, server_max_window_bits=15)]},
]


def test_all_clients_of_a_channel_get_the_same(site: Site) -> None:
    """Whatever they agreed on, what they publish too: small, large, empty and incompressible."""
    source = random.Random(7)
    texts = ["x" * 5_000, "small", "ü" * 300, json.dumps({"list": list(range(9_000))})]
    texts += ["".join(chr(source.randrange(32, 0x2FF)) for _ in range(size)) for size in (100, 1_000, 30_000)]
    with ExitStack() as stack:
        clients = [stack.enter_context(client_of(site, "same", **options)) for options in WAYS]
        for client in clients[:-1]:
            # Greetings of those that came after it.
            client.send("go")
        for client in clients:
            for _ in range(3):
                while client.recv(PATIENCE) != "go":
                    pass
        for text in texts:
            for sender in clients:
                sender.send(text)
                assert [client.recv(PATIENCE) for client in clients] == [text] * len(clients)


def test_a_large_publication_is_compressed(site: Site) -> None:
    """As the metric of delivered bytes shows; a small one is not."""
    with client_of(site, "metric") as client:
        before = delivered(site)
        publish(site, "metric", "y" * 10_000)
        assert client.recv(PATIENCE) == json.dumps("y" * 10_000)
        assert 0 < delivered(site) - before < 200
        before = delivered(site)
        publish(site, "metric", "y" * 200)
        assert client.recv(PATIENCE) == json.dumps("y" * 200)
        assert delivered(site) - before == 2 + 2 + 202


def test_the_npm_sdk_gets_and_sends_compressed_messages(site: Site) -> None:
    """Its `ws` offers the extension by itself, and compresses what has 1,024 bytes or more. Deltas and history too."""
    text = {"text": "abc" * 2_000}
    with npm_client(f"ws://{site.public}") as client:
        for channel, options in (("chat:plain", {}), ("chat:delta", {"delta": "fossil"}), ("kept:room", {})):
            client.subscribe(channel, **options)
            before = delivered(site)
            for number in range(3):
                publish(site, channel, {**text, "number": number})
                client.expect("publication", channel=channel, data={**text, "number": number})
            assert delivered(site) - before < 1_500
            received = site.metric("gateway_received_bytes_total")
            client.tell(publish=channel, data=text)
            client.expect("publication", channel=channel, data=text)
            assert site.metric("gateway_received_bytes_total") - received >= 6_000


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b""], ids=["no deflate", "nothing"])
def test_garbage_closes_the_connection(site: Site, garbage: bytes) -> None:
    """And only this one."""
    host, port = site.public.split(":")
    with client_of(site, "calm") as other, RawClient((host, int(port))) as client:
        assert b"sec-websocket-extensions: permessage-deflate; " in client.upgrade("/ws/calm", [DEFLATE]).lower()
        frame = masked(0x1, garbage)
        client.send(bytes([frame[0] | 0x40]) + frame[1:])
        assert client.close_code() == 1007
        other.send("still here")
        assert other.recv(PATIENCE) == "still here"


def test_a_bomb_closes_the_connection(site: Site) -> None:
    """16 MiB in 16 KiB, of which 320 KiB are inflated."""
    with client_of(site, "bomb") as client:
        client.send("x" * (16 << 20))
        assert close_of(client)[0] == 1009


def test_a_compressed_command_has_the_limit_of_others(site: Site) -> None:
    """`limits.message_size` counts what it says, not the bytes that came."""
    with client_of(site, "limit") as client:
        client.send("x" * 65_536)
        assert client.recv(PATIENCE) == "x" * 65_536
        client.send("x" * 65_537)
        assert close_of(client)[0] not in (1000, 1006)


def test_nothing_is_agreed_on_by_default() -> None:
    """Clients that offer it go on without."""
    with running(settings_of()) as site, client_of(site, "off") as client:
        assert "Sec-WebSocket-Extensions" not in (client.response.headers if client.response else {})
        client.send("z" * 5_000)
        assert client.recv(PATIENCE) == "z" * 5_000


def test_the_server_of_others_compresses_as_it_likes() -> None:
    """On uvicorn's own class the extension is uvicorn's: the setting changes nothing."""
    with (
        ways.plain_asgi(settings_of(compression=COMPRESSED)) as address,
        connect(f"ws://{address}/ws/other", proxy=None, open_timeout=PATIENCE) as client,
    ):
        assert client.response is not None
        assert "permessage-deflate" in client.response.headers["Sec-WebSocket-Extensions"]
        client.send("z" * 5_000)
        assert client.recv(PATIENCE) == "z" * 5_000
