"""Clients of Socket.IO that come back with what they got last: they miss nothing, or are told so."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection

from tests.api.site import KEY, OPEN, Site, running, settings_of
from tests.entrances.engine_client import EngineClient, over_websocket, said

SETTINGS: dict[str, Any] = {
    "namespaces": {"room": {**OPEN, "delivery": "recoverable", "history_size": 500}, "live": OPEN, "closed": {}},
    "socketio": {"recovery": True, "namespaces": {"/admin": {"recovery": True, "everyone": "room:admin"}}},
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running(settings_of(**SETTINGS)) as site:
        yield site


@pytest.fixture
def http(site: Site) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": KEY}
    with httpx.Client(base_url=f"http://{site.public}", headers=headers, trust_env=False, timeout=10) as http:
        yield http


def publish(http: httpx.Client, channel: str, data: object) -> None:
    assert "error" not in http.post("/api/publish", json={"channel": channel, "data": data}).json()


class Client:
    """As `socket.io-client`: it keeps the last argument of each event, if that is a string."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        self.pid = self.offset = ""
        self.recovered = False
        # What it got since its first connection: rooms are told by the data.
        self.got: list[Any] = []
        self._last = 0

    @contextmanager
    def connected(self) -> Iterator["Client"]:
        with over_websocket(self.http) as websocket:
            self.socket: ClientConnection = websocket
            said(websocket)
            claim = {"pid": self.pid, "offset": self.offset} if self.pid else {}
            websocket.send(f"40{json.dumps(claim)}")
            while not (packet := self._next()).startswith("40"):
                self._take(packet)
            pid = json.loads(packet[2:])["pid"]
            self.recovered, self.pid = pid == self.pid, pid
            yield self

    def emit(self, *event: Any) -> Any:
        """The acknowledgement."""
        self._last += 1
        self.socket.send(f"42{self._last}{json.dumps(event)}")
        while not (packet := self._next()).startswith(f"43{self._last}["):
            self._take(packet)
        return json.loads(packet.removeprefix(f"43{self._last}"))[0]

    def until(self, data: Any) -> None:
        """Take events up to this one."""
        while not self.got or self.got[-1] != data:
            self._take(self._next())

    def until_got(self, data: Any) -> None:
        """Take events until it has got this one."""
        while data not in self.got:
            self._take(self._next())

    def _next(self) -> str:
        return str(said(self.socket))

    def _take(self, packet: str) -> None:
        assert packet.startswith("42["), packet
        name, *arguments = json.loads(packet[2:])
        assert isinstance(arguments[-1], str)
        self.offset = arguments.pop()
        if name == "message":
            self.got += arguments


def test_one_room(http: httpx.Client) -> None:
    """With the offsets of everybody in it; the private id stays, and the public one changes."""
    client, other = Client(http), Client(http)
    with client.connected(), other.connected():
        assert not client.recovered
        assert client.emit("join", "room:one") == other.emit("join", "room:one") == {"channel": "room:one"}
        publish(http, "room:one", 1)
        for each in (client, other):
            each.until(1)
        assert client.offset == other.offset
        pid = client.pid
    for number in (2, 3):
        publish(http, "room:one", number)
    with client.connected():
        assert (client.recovered, client.pid) == (True, pid)
        publish(http, "room:one", 4)
        client.until(4)
    assert client.got == [1, 2, 3, 4]


def test_several_rooms(http: httpx.Client) -> None:
    """Also those without a history, of which nothing can be recovered, and that are joined again."""
    client = Client(http)
    with client.connected():
        for room in ("room:a", "room:b", "live:c"):
            client.emit("join", room)
        publish(http, "room:a", "a1")
        publish(http, "room:b", "b1")
        client.until("b1")
    publish(http, "room:a", "a2")
    publish(http, "live:c", "nobody")
    publish(http, "room:b", "b2")
    with client.connected():
        assert client.recovered
        publish(http, "live:c", "c1")
        client.until("c1")
    assert client.got[:2] == ["a1", "b1"]
    assert sorted(client.got[2:4]) == ["a2", "b2"]


def test_a_room_that_was_left_stays_left(http: httpx.Client) -> None:
    client = Client(http)
    with client.connected():
        client.emit("join", "room:left")
        client.emit("join", "room:kept")
        client.emit("leave", "room:left")
        publish(http, "room:kept", "kept")
        client.until("kept")
    publish(http, "room:left", "left")
    with client.connected():
        assert client.recovered
        publish(http, "room:left", "left")
        publish(http, "room:kept", "end")
        client.until("end")
    assert client.got == ["kept", "end"]


def test_a_room_of_the_server(http: httpx.Client) -> None:
    """Every client of the namespace is in it."""
    with over_websocket(http) as websocket:
        said(websocket)
        websocket.send("40/admin,")
        hello = json.loads(str(said(websocket)).removeprefix("40/admin,"))
        assert str(said(websocket)).startswith('42/admin,["gateway:position","room:admin ')
        publish(http, "room:admin", 1)
        offset = json.loads(str(said(websocket)).removeprefix("42/admin,"))[-1]
    publish(http, "room:admin", 2)
    with over_websocket(http) as websocket:
        said(websocket)
        websocket.send("40/admin," + json.dumps({"pid": hello["pid"], "offset": offset}))
        assert str(said(websocket)).startswith('42/admin,["message",2,"')
        assert json.loads(str(said(websocket)).removeprefix("40/admin,"))["pid"] == hello["pid"]


@pytest.mark.parametrize("offset", ["", "hello", "room:x e 1 room:x e 2", "closed:a - 0", "gone:a - 0", "room:x old 5"])
def test_what_cannot_be_recovered_is_told(http: httpx.Client, offset: str) -> None:
    """By another private id. Whatever was restored, joining is no error."""
    client = Client(http)
    client.pid, client.offset = "before", offset
    with client.connected():
        assert not client.recovered
        assert "error" not in client.emit("join", "room:x")


def test_the_channel_of_its_own_is_no_room() -> None:
    """Its name ends with an id that the client does not have any more when it comes back."""
    namespaces = {**SETTINGS["namespaces"], "own": {"delivery": "recoverable"}}
    settings = {"namespaces": namespaces, "socketio": {"recovery": True, "own": "own:"}}
    with (
        running(settings_of(**settings)) as site,
        httpx.Client(base_url=f"http://{site.public}", headers={"X-API-Key": KEY}, trust_env=False) as http,
    ):
        client = Client(http)
        with client.connected():
            client.emit("join", "room:a")
            (own,) = http.post("/api/channels", json={"pattern": "own:*"}).json()["result"]["channels"]
            publish(http, own, "for it alone")
            client.until("for it alone")
        publish(http, "room:a", "missed")
        with client.connected():
            assert client.recovered
        assert client.got == ["for it alone", "missed"]


@pytest.mark.parametrize("pid", ["", "with space", "x" * 65])
def test_a_private_id_that_is_none(http: httpx.Client, pid: str) -> None:
    with over_websocket(http) as websocket:
        said(websocket)
        websocket.send("40" + json.dumps({"pid": pid, "offset": "room:p - 0"}))
        assert json.loads(str(said(websocket))[2:])["pid"] != pid


def test_a_history_that_is_gone(http: httpx.Client) -> None:
    client = Client(http)
    with client.connected():
        client.emit("join", "room:gone")
        publish(http, "room:gone", 1)
        client.until(1)
    publish(http, "room:gone", 2)
    http.post("/api/history_remove", json={"channel": "room:gone"})
    with client.connected():
        assert not client.recovered


def test_polling_and_a_websocket_go_on_with_the_same_offsets(http: httpx.Client) -> None:
    """The change of the transport changes no position."""
    client = EngineClient(http)
    client.send("40")
    hello = client.next()
    assert '"pid":"' in hello
    assert client.next().startswith('42["gateway:position"')
    client.send('421["join","room:t1"]', '422["join","room:t2"]')
    client.take(4)
    publish(http, "room:t1", 1)
    before = json.loads(client.next()[2:])[-1]
    with client.websocket() as websocket:
        websocket.send("2probe")
        said(websocket)
        websocket.send("5")
        publish(http, "room:t2", 2)
        after = json.loads(str(said(websocket))[2:])[-1]
    # (An empty stream has an epoch of its own.)
    assert before.split()[:4] == after.split()[:4]
    assert after.split()[5] == "1"


class Journey:
    """One client that joins, leaves and loses its connection at random, while its rooms go on."""

    def __init__(self, http: httpx.Client, seed: int) -> None:
        self.chance = random.Random(seed)
        self.http = http
        self.client = Client(http)
        self.rooms = [f"room:{seed}-{number}" for number in range(4)]
        self.joined: set[str] = set()
        # What the client has to get of each room.
        self.expected: dict[str, list[str]] = {room: [] for room in self.rooms}
        self._number = 0

    def publish(self, room: str) -> None:
        self._number += 1
        data = f"{room} {self._number}"
        publish(self.http, room, data)
        if room in self.joined:
            self.expected[room].append(data)

    def go_on(self) -> None:
        """Some publications."""
        for _ in range(self.chance.randrange(6)):
            self.publish(self.chance.choice(self.rooms))

    def change(self) -> None:
        """Join or leave a room."""
        room = self.chance.choice(self.rooms)
        if room in self.joined:
            self.client.emit("leave", room)
            self.joined.discard(room)
        else:
            self.client.emit("join", room)
            self.joined.add(room)

    def catch_up(self) -> None:
        for room in sorted(self.joined):
            self.publish(room)
            self.client.until_got(self.expected[room][-1])


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_missed_or_doubled(http: httpx.Client, seed: int) -> None:
    """Not even what was on its way when the connection broke."""
    journey = Journey(http, seed)
    client = journey.client
    for number in range(12):
        with client.connected():
            assert client.recovered == (number > 0 and bool(journey.joined))
            for _ in range(journey.chance.randrange(4)):
                journey.change()
                journey.go_on()
            if journey.chance.random() < 0.5:
                journey.catch_up()
        journey.go_on()
    with client.connected():
        journey.catch_up()
    for room, expected in journey.expected.items():
        assert [each for each in client.got if each.startswith(f"{room} ")] == expected
