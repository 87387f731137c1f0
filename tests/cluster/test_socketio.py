"""Unmodified clients of Socket.IO at three nodes, behind a balancer that leads each request to another node."""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cent
import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from gateway.tokens import connection_token
from tests.cli.commands import wait_for
from tests.cluster.balancer import Balancer, balanced
from tests.cluster.sdk import PATIENCE, SDK_FOLDER, Client, npm_client, npm_socketio, python_socketio
from tests.cluster.test_demo import played
from tests.cluster.test_emitters import metric
from tests.clusters import Cluster, ClusterNode, running_cluster
from tests.entrances.engine_client import POLLING, EngineClient
from tests.servers import free_port

pytestmark = pytest.mark.slow

EACH = 25
CHANNEL = "mixed"
SETTINGS = {
    "GATEWAY_SOCKETIO__EVERYONE": "all",
    "GATEWAY_SOCKETIO__EVENTS": json.dumps({"message": "all", "say": CHANNEL}),
    "GATEWAY_SOCKETIO__NAMESPACES": json.dumps({"/staff": {"everyone": "staff", "events": {"message": "staff"}}}),
}
# Long enough to do something before it ends a client.
HEARTBEAT = {
    "GATEWAY_HEARTBEAT__PING_INTERVAL": "4",
    "GATEWAY_HEARTBEAT__PONG_TIMEOUT": "2",
    "GATEWAY_HEARTBEAT__CONNECT_TIMEOUT": "4",
}
# Every client and its transports, by name.
Opener = Callable[[str, str], AbstractContextManager[Client]]
CLIENTS: dict[str, Opener] = {
    "polling": lambda url, token: npm_socketio(url, token, "polling"),
    "default": npm_socketio,
    "websocket": lambda url, token: npm_socketio(url, token, "websocket"),
    "python": python_socketio,
    "python polling": lambda url, token: python_socketio(url, token, "polling"),
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--no-auth", env=SETTINGS) as running:
        yield running


@pytest.fixture
def balancer(cluster: Cluster, tmp_path: Path) -> Iterator[Balancer]:
    with balanced(cluster.nodes, tmp_path) as running:
        yield running


@contextmanager
def clients_of(balancer: Balancer, path: str = "") -> Iterator[dict[str, Client]]:
    """One of each, connected."""
    with ExitStack() as stack:
        clients = {name: stack.enter_context(each(balancer.http + path, "")) for name, each in CLIENTS.items()}
        for client in clients.values():
            client.expect("connected")
        yield clients


def publish(node: ClusterNode, channel: str, data: object) -> None:
    cent.Client(f"{node.url}/api", api_key="none").publish(cent.PublishRequest(channel=channel, data=data))


def members(node: ClusterNode, channel: str) -> int:
    asked = cent.PresenceStatsRequest(channel=channel)
    return int(cent.Client(f"{node.url}/api", api_key="none").presence_stats(asked).num_clients)


def acknowledged(client: Client, name: str, data: object) -> Any:
    """Emit, and return the answer."""
    client.tell(emit=name, data=data)
    return client.expect("acknowledged", name=name)["answer"]


def all_of(client: Client, event: str, count: int) -> list[dict[str, Any]]:
    """The events of this kind since the client was started, once there are so many."""
    while len(found := [each for each in client.seen if each["event"] == event]) < count:
        client.expect(event)
    return found


def heard(client: Client, count: int) -> list[Any]:
    """What was published since the client was started."""
    return [each["data"] for each in all_of(client, "publication", count)]


def in_base64(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


class Events:
    """An EventSource."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(trust_env=False, timeout=PATIENCE)
        self._response = self._client.send(self._client.build_request("GET", url), stream=True)
        assert self._response.status_code == 200
        self._lines = self._response.iter_lines()

    def next(self) -> Any:
        """The next publication, as JSON."""
        data = next(line for line in self._lines if line.startswith("data:"))
        return json.loads(data.removeprefix("data:"))

    def close(self) -> None:
        self._response.close()
        self._client.close()


def said(socket: ClientConnection) -> Any:
    """The next message of a plain WebSocket, as clients that speak JSON see it. (Texts arrive as they were sent.)"""
    message = socket.recv(timeout=PATIENCE)
    if isinstance(message, bytes):
        return in_base64(message)
    return json.loads(message) if message.startswith('"') else message


def test_all_protocols_hear_each_other_in_one_order(cluster: Cluster, balancer: Balancer) -> None:
    """Whoever can publish does, all at once, and everybody gets everything in the same order; bytes too."""
    first = cluster.nodes[0]
    with (
        clients_of(balancer) as sockets,
        npm_client(balancer.ws) as native,
        connect(f"{balancer.ws}/ws/{CHANNEL}", compression=None, proxy=None) as plain,
        closing(Events(f"{balancer.http}/sse/{CHANNEL}")) as events,
    ):
        for client in sockets.values():
            assert acknowledged(client, "join", CHANNEL) == {"channel": CHANNEL}
        native.subscribe(CHANNEL)
        # Neither a plain WebSocket nor server-sent events tell when their client has joined.
        wait_for(lambda: members(first, CHANNEL) == len(sockets) + 3)
        for index in range(EACH):
            for name, client in sockets.items():
                client.tell(emit="say", data=f"{name}: {index}")
                client.tell(emit="say", data=in_base64(f"{name}: {index}".encode()))
            native.tell(publish=CHANNEL, data=f"native: {index}")
            plain.send(f"plain: {index}")
            plain.send(f"plain: {index}".encode())
            publish(first, CHANNEL, f"backend: {index}")
        count = EACH * (2 * len(sockets) + 4)
        order = [said(plain) for _ in range(count)]
        assert [events.next() for _ in range(count)] == order
        assert heard(native, count) == order
        for name, client in sockets.items():
            assert heard(client, count) == order, name
            assert {each["count"] for each in all_of(client, "publication", count)} == {1}
            answers = [each["answer"] for each in all_of(client, "acknowledged", 1 + 2 * EACH)[1:]]
            assert answers == [{}] * (2 * EACH), name
    for name in (*sockets, "native", "plain", "backend"):
        texts = [f"{name}: {index}" for index in range(EACH)]
        assert [each for each in order if each in texts] == texts
        if name not in ("native", "backend"):
            buffers = [in_base64(text.encode()) for text in texts]
            assert [each for each in order if each in buffers] == buffers


def test_names_of_events(cluster: Cluster, balancer: Balancer) -> None:
    """An event keeps its name; what has none is a message."""
    with clients_of(balancer) as clients:
        for client in clients.values():
            assert acknowledged(client, "join", CHANNEL) == {"channel": CHANNEL}
        clients["default"].tell(emit="say", data={"text": "hello"})
        for client in clients.values():
            client.expect("publication", name="say", data={"text": "hello"})
        publish(cluster.nodes[0], CHANNEL, 1)
        for client in clients.values():
            client.expect("publication", name="message", data=1)


@pytest.mark.parametrize("name", CLIENTS)
def test_rooms(cluster: Cluster, balancer: Balancer, name: str) -> None:
    """Who has left a room hears nothing of it, and everybody's channel as before."""
    with CLIENTS[name](balancer.http, "") as client:
        client.expect("connected")
        assert acknowledged(client, "join", "room") == {"channel": "room"}
        publish(cluster.nodes[0], "room", "inside")
        client.expect("publication", data="inside")
        assert acknowledged(client, "leave", "room") == {}
        publish(cluster.nodes[0], "room", "outside")
        publish(cluster.nodes[0], "all", "to all")
        client.expect("publication", data="to all")
        assert heard(client, 2) == ["inside", "to all"]
        assert acknowledged(client, "join", {"no": "room"})["error"]["code"] == 107
        assert acknowledged(client, "unknown", 1)["error"]["code"] == 108


def test_namespaces(cluster: Cluster, balancer: Balancer) -> None:
    """Each has events and channels of its own, by the same names."""
    with clients_of(balancer) as others, clients_of(balancer, "/staff") as staff:
        for name, client in staff.items():
            assert acknowledged(client, "message", f"{name} to staff") == {}
            assert acknowledged(others[name], "message", f"{name} to all") == {}
        for name, client in staff.items():
            assert sorted(heard(client, len(staff))) == sorted(f"{each} to staff" for each in staff), name
        for name, client in others.items():
            assert sorted(heard(client, len(others))) == sorted(f"{each} to all" for each in others), name


def test_the_default_client_gets_its_websocket_without_stickiness(balancer: Balancer) -> None:
    """Every time, although its requests arrive at different nodes."""
    for number in range(3):
        with npm_socketio(balancer.http) as client:
            # Its first packet waited for the WebSocket.
            client.expect("connected", transport="websocket")
            assert acknowledged(client, "message", number) == {}
            assert heard(client, 1) == [number]
            assert {each["event"] for each in client.seen} == {"upgraded", "connected", "acknowledged", "publication"}
    wait_for(lambda: len(websockets_of(balancer)) == 3)
    for sid in websockets_of(balancer):
        assert len({each.node for each in balancer.asked() if each.sid == sid}) > 1


def websockets_of(balancer: Balancer) -> list[str]:
    """The sessions that had a WebSocket, from the log of requests that are over."""
    return [each.sid for each in balancer.asked() if "transport=websocket" in each.target]


def test_a_client_with_a_wrong_token_stays_away(tmp_path: Path) -> None:
    """It learns why, and does not come back by itself; with another token it gets in."""
    with running_cluster(env=SETTINGS) as cluster, balanced(cluster.nodes, tmp_path) as balancer:
        good = connection_token(cluster.hmac_secret, "ann")
        for name, opened in CLIENTS.items():
            with opened(balancer.http, connection_token("x" * 32, "ann")) as client:
                assert client.expect("refused")["data"]["code"] == 3500
                if not name.startswith("python"):
                    assert not client.seen[-1]["active"]
                    client.tell(token=good)
                    client.expect("connected")
                    assert "reconnecting" not in {each["event"] for each in client.seen}, name
            with opened(balancer.http, good) as client:
                client.expect("connected")


def drain(cluster: Cluster, node: ClusterNode) -> None:
    command = [sys.executable, "-m", "gateway", "drain", node.name, "--url", cluster.nodes[1].url, "--api-key", "none"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def terminate(cluster: Cluster, node: ClusterNode) -> None:
    os.kill(node.pid, signal.SIGTERM)


def kill(cluster: Cluster, node: ClusterNode) -> None:
    os.kill(node.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [drain, terminate, kill])
def test_clients_of_a_node_that_ends_come_back_to_another(
    end: Callable[[Cluster, ClusterNode], None], tmp_path: Path
) -> None:
    """By themselves, and get what is published from then on. Also if the node could not tell them that it ends."""
    with (
        running_cluster("--no-auth", env=SETTINGS | HEARTBEAT) as cluster,
        balanced(cluster.nodes, tmp_path) as balancer,
    ):
        first, *others = cluster.nodes
        balancer.lead_to([first])
        with clients_of(balancer) as clients:
            assert members(first, "all") == len(clients)
            # From here on, requests of those that poll are passed on to the first node.
            balancer.lead_to(others)
            for name, client in clients.items():
                assert acknowledged(client, "message", name) == {}
            balancer.lead_to(cluster.nodes)
            end(cluster, first)
            for client in clients.values():
                client.expect("disconnected")
            for client in clients.values():
                client.expect("connected")
                assert acknowledged(client, "message", "again") == {}
            publish(others[0], "all", "from a backend")
            for client in clients.values():
                client.expect("publication", data="from a backend")


@pytest.mark.parametrize("count", [1, 5])
def test_clients_of_a_node_that_dies_recover(count: int, tmp_path: Path) -> None:
    """In one room and in several: every message once, in the order of its room, and the client knows it."""
    rooms = [f"room{number}" for number in range(count)]
    kinds = ("polling", "default", "websocket")
    settings = HEARTBEAT | {"GATEWAY_SOCKETIO__RECOVERY": "true"}
    with (
        running_cluster("--no-auth", env=settings) as cluster,
        balanced(cluster.nodes, tmp_path) as balancer,
        ExitStack() as stack,
    ):
        first, *others = cluster.nodes
        balancer.lead_to([first])
        clients = [stack.enter_context(CLIENTS[kind](balancer.http, "")) for kind in kinds]
        for client in clients:
            assert client.expect("connected")["recovered"] is False
            for room in rooms:
                assert acknowledged(client, "join", room) == {"channel": room}
        balancer.lead_to(cluster.nodes)
        published = [f"{room} {number}" for number in range(10) for room in rooms]
        for number, data in enumerate(published):
            publish(others[0], data.split()[0], data)
            if number == len(published) // 2:
                kill(cluster, first)
        for client in clients:
            assert client.expect("connected")["recovered"] is True
        for room in rooms:
            publish(others[0], room, f"{room} end")
        for client in clients:
            for room in rooms:
                while f"{room} end" not in (got := messages(client)):
                    client.expect("publication")
                expected = [data for data in published if data.split()[0] == room]
                assert [data for data in got if data.split()[0] == room] == [*expected, f"{room} end"]


def messages(client: Client) -> list[str]:
    """What was published without a name, as far as the client has told."""
    return [each["data"] for each in client.seen if each["event"] == "publication" and each["name"] == "message"]


@pytest.mark.parametrize("joins", [True, False], ids=["joined", "never joined"])
def test_clients_that_never_poll_are_closed(joins: bool) -> None:
    """By the heartbeat, or because they never connect; whatever waited for them is freed."""
    with running_cluster("--no-auth", nodes=2, env=SETTINGS | HEARTBEAT) as cluster:
        first, second = cluster.nodes
        sids = [handshake(first) for _ in range(10)]
        if joins:
            for sid in sids:
                # At another node than that of the handshake.
                assert httpx.post(f"{second.url}/socket.io/", params={**POLLING, "sid": sid}, content="40").text == "ok"
            for _ in range(10):
                publish(second, "all", "x" * 50_000)
            wait_for(lambda: metric(first, "gateway_waiting_bytes") > 0)
            assert metric(first, "gateway_delivered_bytes_total") > 0
        for gauge in ("connections", "connections_unauthenticated", "subscriptions", "waiting_bytes"):
            wait_for(lambda name=f"gateway_{gauge}": metric(first, name, " ") == 0)  # type: ignore[misc]
        for sid in sids:
            answer = httpx.get(f"{second.url}/socket.io/", params={**POLLING, "sid": sid})
            assert answer.json()["code"] == 1
        # The node answered with these figures, and did not fail to answer.
        assert metric(first, "gateway_broker_up") == 1


def handshake(node: ClusterNode) -> str:
    """The session of a new client, whose request's connection is closed."""
    with httpx.Client(base_url=node.url, trust_env=False) as http:
        return EngineClient(http).sid


CHAT = {"GATEWAY_SOCKETIO__EVERYONE": "chat", "GATEWAY_SOCKETIO__EVENTS": json.dumps({"chat message": "chat"})}
CHAT_FILES = {
    "/": (SDK_FOLDER / "socketio_chat.html", "text/html"),
    "/socket.io.min.js": (SDK_FOLDER / "node_modules/socket.io-client/dist/socket.io.min.js", "text/javascript"),
}


@contextmanager
def website() -> Iterator[str]:
    """The origin of a server that has the page and the library."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            file, type = CHAT_FILES.get(urlsplit(self.path).path, (None, ""))
            self.send_response(200 if file else 204)
            self.send_header("Content-Type", type)
            self.end_headers()
            if file:
                self.wfile.write(file.read_bytes())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_the_chat_of_the_first_article() -> None:
    """A page of another origin with `io(url)` and nothing else: two windows on two nodes see what both wrote."""
    with website() as page:
        env = CHAT | {"GATEWAY_ORIGINS__ALLOWED": json.dumps([page])}
        with running_cluster("--no-auth", nodes=2, env=env) as cluster:
            shown = played("socketio_chat.mjs", page, *(node.url for node in cluster.nodes))
    talk = ["Hello from Ann", "Hi Ann, <b>Bob</b> here \U0001f30d", "Bye"]
    assert shown == {"first": talk, "second": talk, "problems": []}
