"""An application's own code behind Socket.IO: who connects, and events with acknowledgements."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.hooks import ConnectRequest, ConnectResult, Denied, Hooks, RpcRequest
from gateway.in_process import NodeMethods
from tests.api.site import OPEN, running, settings_of
from tests.entrances.engine_client import EngineClient

SETTINGS: dict[str, Any] = {
    "namespaces": {"chat": OPEN, "socket": {}},
    "socketio": {"everyone": "chat:all", "own": "socket:", "namespaces": {"/admin": {}}},
}


def application() -> Hooks:
    """Lets in who names himself, and answers events."""
    hooks = Hooks()

    @hooks.connect
    async def connect(request: ConnectRequest) -> ConnectResult:
        if not request.data or "name" not in request.data:
            raise Denied("who are you?", code=400)
        return ConnectResult(user=request.data["name"])

    @hooks.on("sum")
    async def total(request: RpcRequest, *numbers: int) -> int:
        return sum(numbers)

    @hooks.on("shout", "cry")
    async def shout(request: RpcRequest, text: str) -> None:
        await hooks.gateway.publish("chat:all", f"{request.user}: {text.upper()}", event=request.method)

    @hooks.on("whisper")
    async def whisper(request: RpcRequest, text: str) -> None:
        await hooks.gateway.publish(f"socket:{request.client}", text, event="whispered")

    @hooks.on("sum", namespace="/admin")
    async def other(request: RpcRequest, *numbers: int) -> str:
        return f"{request.user} has {len(numbers)}"

    @hooks.rpc()
    async def anything(request: RpcRequest) -> Any:
        return {"method": request.method, "data": request.data, "protocol": request.protocol}

    return hooks


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    hooks = application()
    with running(settings_of(**SETTINGS), hooks=hooks) as site:
        hooks.gateway = NodeMethods(site.gateway)
        yield f"http://{site.public}"


@pytest.fixture
def client(address: str) -> Iterator[EngineClient]:
    with httpx.Client(base_url=address, trust_env=False, timeout=10) as http:
        yield EngineClient(http)


def test_the_connect_hook_decides_by_the_payload(client: EngineClient) -> None:
    """Of the CONNECT. Its error is the one of the client's connect_error."""
    client.send('40{"token":""}')
    told = client.next()
    assert told.startswith("44")
    assert json.loads(told[2:]) == {"message": "who are you?", "data": {"code": 400, "message": "who are you?"}}


def test_events_are_acknowledged_with_what_the_hook_returns(client: EngineClient) -> None:
    client.join('{"name":"ann"}')
    client.send('421["sum",1,2,3]', '422["sum"]', '423["other",{"a":1},null]', '424["sum","x"]')
    answers = dict(packet.split("[", 1) for packet in client.take(4))
    assert answers["431"] == "6]"
    assert answers["432"] == "0]"
    assert json.loads(answers["433"][:-1]) == {"method": "other", "data": [{"a": 1}, None], "protocol": "socketio"}
    assert json.loads(answers["434"][:-1])["error"]["code"] == 100


def test_a_hook_emits_to_a_room(client: EngineClient) -> None:
    """With the name of an event; the hook returns nothing, and the acknowledgement has null."""
    client.join('{"name":"ann"}')
    client.send('421["shout","hello"]', '42["cry","again"]')
    assert sorted(client.take(3)) == ['42["cry","ann: AGAIN"]', '42["shout","ann: HELLO"]', "431[null]"]


def test_a_hook_emits_to_a_socket(address: str, client: EngineClient) -> None:
    """Nobody else hears it, nor can join its channel."""
    client.join('{"name":"ann"}')
    with httpx.Client(base_url=address, trust_env=False, timeout=10) as http:
        other = EngineClient(http)
        sid = other.join('{"name":"eve"}')
        client.send(f'421["join","socket:{sid}"]')
        assert '"code":103' in client.next()
        other.send('421["whisper","psst"]')
        assert sorted(other.take(2)) == ['42["whispered","psst"]', "431[null]"]
        client.send('42["shout","x"]')
        assert client.next() == '42["shout","ann: X"]'


def test_namespaces_have_events_of_their_own(client: EngineClient) -> None:
    client.join('{"name":"ann"}', "/admin,")
    client.send('42/admin,1["sum",1,2]')
    assert client.next() == '43/admin,1["ann has 2"]'
