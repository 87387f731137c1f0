"""Socket.IO, from the handshake of Engine.IO on: what goes over the wire, on our own server and under another one."""

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from gateway.transports.long_polling.polling_transport import PollingTransport
from tests.api.site import OPEN, running, settings_of
from tests.entrances.conftest import Make
from tests.entrances.engine_client import PATIENCE, POLLING, EngineClient, over_websocket, said

SETTINGS: dict[str, Any] = {
    "namespaces": {"chat": {**OPEN, "delivery": "recoverable"}, "closed": {}},
    "socketio": {
        "everyone": "chat:all",
        "events": {"message": "chat:all", "note": "chat:notes", "secret": "closed:a"},
        "namespaces": {"/admin": {"events": {"message": "chat:admin"}}},
    },
    "origins": {"allowed": ["https://page.example"]},
    "limits": {"message_size": 65_536},
}


@pytest.fixture
def client(http: httpx.Client) -> EngineClient:
    return EngineClient(http)


def publish(http: httpx.Client, channel: str, data: object) -> None:
    answer = http.post("/api/publish", json={"channel": channel, "data": data})
    assert "error" not in answer.json()


# Engine.IO


def test_the_handshake(client: EngineClient) -> None:
    """Exactly the keys of the reference."""
    opened = client.opened
    assert list(opened) == ["sid", "upgrades", "pingInterval", "pingTimeout", "maxPayload"]
    assert opened["upgrades"] == ["websocket"]
    assert (opened["pingInterval"], opened["pingTimeout"]) == (25_000, 8_000)


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("GET", {"EIO": "4"}, 0),
        ("GET", {"EIO": "4", "transport": "pigeon"}, 0),
        ("GET", {**POLLING, "sid": "unknown"}, 1),
        ("POST", {**POLLING, "sid": "0" * 16 + "." + "A" * 22}, 1),
        ("POST", POLLING, 2),
        ("PUT", POLLING, 2),
        ("DELETE", {**POLLING, "sid": "unknown"}, 2),
        ("GET", {"EIO": "4", "transport": "websocket"}, 3),
        ("GET", {"EIO": "3", "transport": "polling"}, 5),
        ("GET", {"transport": "polling"}, 5),
    ],
)
def test_requests_that_are_none(http: httpx.Client, method: str, params: dict[str, str], code: int) -> None:
    """They get the errors of the reference."""
    answer = http.request(method, "/socket.io/", params=params)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


def test_the_log_tells_of_clients_that_are_too_old(caplog: pytest.LogCaptureFixture) -> None:
    """Once in a while: their users see nothing but that it does not work."""
    with running(settings_of()) as site:
        for _ in range(3):
            httpx.get(f"http://{site.public}/socket.io/?EIO=3&transport=polling", trust_env=False)
    (line,) = [each for each in caplog.records if "EIO=3" in str(vars(each).get("detail"))]
    assert line.levelname == "WARNING"


@pytest.mark.parametrize("path", ["/socket.io", "/socket.io/"])
def test_the_slash_at_the_end_does_not_matter(http: httpx.Client, path: str) -> None:
    assert http.get(path, params=POLLING).status_code == 200


@pytest.mark.parametrize("params", ["transport=websocket", "EIO=3&transport=websocket", "EIO=4&transport=polling"])
def test_websockets_that_are_none(http: httpx.Client, params: str) -> None:
    base = str(http.base_url).replace("http", "ws", 1)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{base}/socket.io/?{params}", proxy=None)
    assert refused.value.response.status_code == 400


def test_a_websocket_without_polling_before(http: httpx.Client) -> None:
    with over_websocket(http) as websocket:
        opened = json.loads(str(said(websocket)).removeprefix("0"))
        assert opened["upgrades"] == []
        websocket.send("40")
        assert str(said(websocket)).startswith('40{"sid":"')


def test_pages_of_other_origins(http: httpx.Client) -> None:
    """They poll if the setting allows them, and learn that they may."""
    headers = {"Origin": "https://page.example"}
    asked = http.options("/socket.io/", params=POLLING, headers=headers)
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-methods"] == "GET, POST"
    answer = http.get("/socket.io/", params=POLLING, headers=headers)
    assert answer.headers["access-control-allow-origin"] == "https://page.example"
    sid = json.loads(answer.text[1:])["sid"]
    other = {"Origin": "https://other.example"}
    for method, params in (("GET", POLLING), ("GET", {**POLLING, "sid": sid}), ("POST", {**POLLING, "sid": sid})):
        refused = http.request(method, "/socket.io/", params=params, headers=other)
        assert refused.status_code == 403
        assert "access-control-allow-origin" not in refused.headers


def test_a_second_poll_ends_both_and_the_connection(client: EngineClient) -> None:
    with ThreadPoolExecutor(2) as threads:
        answers = [each.result(PATIENCE) for each in [threads.submit(client.poll) for _ in range(2)]]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert client.poll().status_code == 400


def test_the_packet_that_closes(client: EngineClient) -> None:
    """A parked poll ends with a noop, as in the reference."""
    with ThreadPoolExecutor(1) as threads:
        poll = threads.submit(client.poll)
        client.send("1")
        answer = poll.result(PATIENCE)
    # (If the poll came second, there was nothing to poll.)
    assert (answer.status_code, answer.text) == (200, "6") or answer.status_code == 400
    assert client.poll().json()["code"] == 1


@pytest.mark.parametrize("packet", ["", "x", "2", "5", "0{}", "4", "4x", "42", "42[]", "42{}", "41{}", "4451-[", "b!"])
def test_packets_that_are_none_close_the_connection(client: EngineClient, packet: str) -> None:
    client.join()
    client.send(packet)
    assert client.next() == "1"
    assert client.poll().json()["code"] == 1


@pytest.mark.parametrize("packet", ['42["message",1]', "41", '43["x"]', '42/admin,["message",1]'])
def test_nothing_goes_before_the_connect(client: EngineClient, packet: str) -> None:
    client.send(packet)
    assert client.next() == "1"


def test_a_body_above_the_limit(client: EngineClient) -> None:
    """The limit is said in the handshake."""
    client.join()
    answer = client.post("4" + "x" * client.opened["maxPayload"])
    assert answer.status_code == 413


def test_who_leaves_in_the_midst_of_a_poll_is_gone(http: httpx.Client, client: EngineClient) -> None:
    """What would have answered the poll is lost. As in the reference."""
    client.join()
    with pytest.raises(httpx.ReadTimeout):
        http.get("/socket.io/", params={**POLLING, "sid": client.sid}, timeout=0.2)
    for _ in range(100):
        answer = client.post("3")
        if answer.status_code == 400 and answer.json()["code"] == 1:
            return
    raise AssertionError("the connection lives on")


# From polling to a WebSocket


def test_the_upgrade(http: httpx.Client, client: EngineClient) -> None:
    """A parked poll ends with a noop; then everything goes over the WebSocket, in order, and nothing is lost."""
    client.join()
    client.send('421["join","chat:up"]')
    assert client.next() == '431[{"channel":"chat:up"}]'
    with client.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(timeout=PATIENCE) == "3probe"
        assert client.poll().text == "6"
        for number in range(3):
            publish(http, "chat:up", number)
        client.send(
            '42["note",{"a":1}]', "452-".replace("2", "1") + '["message",{"_placeholder":true,"num":0}]', "bAQID"
        )
        websocket.send("5")
        told = [said(websocket) for _ in range(5)]
        assert told == [
            '42["message",0]',
            '42["message",1]',
            '42["message",2]',
            '451-["message",{"_placeholder":true,"num":0}]',
            b"\x01\x02\x03",
        ]
        websocket.send('427["note","over the WebSocket"]')
        assert said(websocket) == "437[{}]"
        assert client.poll().json()["code"] == 1


def test_a_websocket_for_nothing_is_closed(http: httpx.Client, client: EngineClient) -> None:
    """It is accepted first, as in the reference: clients take a refusal for an error of the network."""
    with client.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(timeout=PATIENCE) == "3probe"
        for step in ("before", "after"):
            for sid in (client.sid, "unknown", "0" * 16 + "." + "A" * 22):
                with over_websocket(http, sid) as other, pytest.raises(ConnectionClosed):
                    other.recv(timeout=PATIENCE)
            if step == "before":
                websocket.send("5")


@pytest.mark.parametrize("message", ["2", "5", "40", "probe", b"2probe"])
def test_a_websocket_that_is_not_probed_is_closed(client: EngineClient, message: str | bytes) -> None:
    """The client polls on."""
    with client.websocket() as websocket:
        websocket.send(message)
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=PATIENCE)
    client.join()


def test_a_websocket_that_is_left_after_the_probe(client: EngineClient) -> None:
    """The client polls on, and its polls wait again."""
    with client.websocket() as websocket:
        websocket.send("2probe")
        assert websocket.recv(timeout=PATIENCE) == "3probe"
    client.send("40")
    while (packet := client.next()) == "6":
        pass
    assert packet.startswith("40{")


# Socket.IO


def test_everyone_hears_an_event_of_the_list(http: httpx.Client, client: EngineClient) -> None:
    """Clients of all kinds; the sender too."""
    client.join()
    with over_websocket(http) as websocket:
        said(websocket)
        websocket.send("40")
        said(websocket)
        client.send('42["message",{"text":"hello"}]')
        assert client.next() == '42["message",{"text":"hello"}]'
        assert said(websocket) == '42["message",{"text":"hello"}]'
        websocket.send('451-["message",{"_placeholder":true,"num":0}]')
        websocket.send(b"\x00\xff")
        assert client.take(2) == ['451-["message",{"_placeholder":true,"num":0}]', "bAP8="]
        publish(http, "chat:all", "from a backend")
        assert client.next() == '42["message","from a backend"]'


def test_events_keep_their_names(client: EngineClient) -> None:
    client.join()
    client.send('420["join",{"channel":"chat:notes"}]', '421["note","x"]')
    assert set(client.take(3)) == {'430[{"channel":"chat:notes"}]', '42["note","x"]', "431[{}]"}


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ('["join"]', 107),
        ('["join",1]', 107),
        ('["join",{}]', 107),
        ('["join","closed:a"]', 103),
        ('["join","nothing:a"]', 102),
        ('["secret",1]', 103),
        ('["message",1,2]', 107),
        ('["message"]', 107),
        ('["publish","closed:a",1]', 103),
        ('["other",1]', 108),
    ],
)
def test_events_that_fail_are_acknowledged_with_an_error(client: EngineClient, event: str, error: int) -> None:
    client.join()
    client.send(f"425{event}")
    packet = client.next()
    assert packet.startswith('435[{"error":{"code":')
    assert json.loads(packet[3:])[0]["error"]["code"] == error
    # Without an acknowledgement nobody is told, and the connection lives on.
    client.send(f"42{event}", '42["message","still here"]')
    assert client.next() == '42["message","still here"]'


def test_backends_name_events(http: httpx.Client, client: EngineClient) -> None:
    """Those without a name are messages."""
    client.join()
    for event in ("note", None):
        answer = http.post("/api/publish", json={"channel": "chat:all", "data": [1], "event": event})
        assert "error" not in answer.json()
    assert client.take(2) == ['42["note",[1]]', '42["message",[1]]']
    assert "error" in http.post("/api/publish", json={"channel": "chat:all", "data": 1, "event": "x" * 129}).json()


def test_leaving_a_room(http: httpx.Client, client: EngineClient) -> None:
    client.join()
    client.send('421["subscribe","chat:room"]', '422["unsubscribe","chat:room"]')
    assert client.take(2) == ['431[{"channel":"chat:room"}]', "432[{}]"]
    publish(http, "chat:room", "nobody")
    publish(http, "chat:all", "everybody")
    assert client.next() == '42["message","everybody"]'


def test_namespaces(http: httpx.Client, client: EngineClient) -> None:
    """Each is a session of its own; leaving one leaves the others."""
    first, second = client.join(), client.join(namespace="/admin,")
    assert first != second
    client.send('42/admin,1["join","chat:admin"]')
    assert client.next() == '43/admin,1[{"channel":"chat:admin"}]'
    client.send('42/admin,["message",1]')
    assert client.next() == '42/admin,["message",1]'
    client.send("41/admin,", '42["message",2]')
    assert client.next() == '42["message",2]'
    client.send("40/nothing,")
    assert client.next() == '44/nothing,{"message":"Invalid namespace"}'
    client.send("41", "40")
    assert client.next().startswith('40{"sid":"')


def test_a_second_connect_to_a_namespace_closes(client: EngineClient) -> None:
    client.join()
    client.send("40")
    assert client.next() == "1"


@pytest.mark.parametrize("auth", ["", "{}", '{"token":1}', '{"token":"x"}'])
def test_a_client_that_is_not_let_in_is_told(make: Make, auth: str) -> None:
    """By a CONNECT_ERROR, after which clients do not come back by themselves. Other namespaces are not concerned."""
    settings = settings_of(auth={"hmac_secret": "x" * 32}, **{k: v for k, v in SETTINGS.items() if k != "auth"})
    with make(settings) as address, httpx.Client(base_url=f"http://{address}", trust_env=False) as http:
        client = EngineClient(http)
        client.send(f"40{auth}")
        told = client.next()
        assert told.startswith("44{")
        assert json.loads(told[2:])["data"]["code"] in (3500, 3501)


def test_clients_that_shall_come_back_are_not_told_to_stay_away() -> None:
    """The transport closes, without a DISCONNECT: that is for who was sent away."""
    with (
        running(settings_of(**SETTINGS)) as site,
        httpx.Client(
            base_url=f"http://{site.public}", headers={"X-API-Key": "the API key of the tests, 32 bytes or more"}
        ) as http,
    ):
        client = EngineClient(http)
        client.join()
        with over_websocket(http) as websocket:
            said(websocket)
            websocket.send("40")
            said(websocket)
            site.call(site.gateway.close_clients)
            with pytest.raises(ConnectionClosed):
                said(websocket)
        assert client.ends()


def test_parked_polls_do_not_hold_up_a_stop() -> None:
    """Neither of those who connected, nor of others."""
    with ExitStack() as stack, ThreadPoolExecutor(2) as threads:
        with running(settings_of(**SETTINGS)) as site:
            clients = [
                EngineClient(stack.enter_context(httpx.Client(base_url=f"http://{site.public}", trust_env=False)))
                for _ in range(2)
            ]
            clients[0].join()
            polls = [threads.submit(client.poll) for client in clients]
            while site.call(lambda: sum(parked(each) for each in site.server.server_state.connections)) < 2:
                pass
        assert [poll.result(PATIENCE).status_code for poll in polls] == [400, 400]


def parked(connection: object) -> bool:
    return isinstance(connection, PollingTransport) and connection._parked is not None
