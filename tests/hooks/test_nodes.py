"""Hooks on whole nodes, in Python and over HTTP, over each protocol: on our server, and under plain uvicorn."""

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from queue import SimpleQueue
from typing import Any, NamedTuple

import msgspec
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from gateway.embedding import Gateway
from gateway.errors import NOT_PERMITTED
from gateway.hooks import (
    ConnectRequest,
    ConnectResult,
    Denied,
    Disconnect,
    DisconnectEvent,
    Hooks,
    OccupiedEvent,
    PublishRequest,
    PublishResult,
    RpcRequest,
    SubscribeRequest,
    SubscribeResult,
    UnsubscribeEvent,
    VacatedEvent,
)
from gateway.hooks.events import Event
from gateway.tokens import connection_token
from tests.api.clients import PATIENCE, Native, close_of
from tests.api.site import SECRET, running, settings_of
from tests.embedding.servers import on_own_server, on_uvicorn
from tests.entrances import ways
from tests.hooks.backend import backend

ORIGIN = Origin("https://app.example")
SETTINGS: dict[str, Any] = {
    "auth": {"hmac_secret": SECRET},
    "origins": {"allowed": [ORIGIN]},
    "namespaces": {"room": {"delivery": "recoverable"}, "lobby": {"allow_subscribe": ["client"]}},
}


# What an application was told of: the kind, and the event in JSON.
Heard = SimpleQueue[tuple[str, dict[str, Any]]]


def rules(heard: Heard) -> Hooks:
    """An application: users by a session cookie, rooms by membership, and a few calls."""
    hooks = Hooks()
    users(hooks)
    rooms(hooks)
    calls(hooks)
    ends(hooks, heard)
    return hooks


def users(hooks: Hooks) -> None:
    sessions = {"s-ann": "ann", "s-bob": "bob", "s-slow": "slow"}

    @hooks.connect
    async def log_in(request: ConnectRequest) -> ConnectResult:
        if request.cookie("session") == "s-banned":
            raise Disconnect(4501, "banned")
        user = request.user or sessions.get(request.cookie("session"))
        if not user:
            raise Denied("log in first")
        return ConnectResult(
            user=user, info={"name": user.title()}, data={"at": request.address}, channels=["lobby:all"], meta=user * 2
        )


def rooms(hooks: Hooks) -> None:
    @hooks.startup
    async def start() -> None:
        hooks.state.members = {"room:1": {"ann", "bob", "slow"}}

    @hooks.subscribe("room")
    async def may_enter(request: SubscribeRequest) -> bool | SubscribeResult:
        assert request.meta == request.user * 2
        if request.user not in hooks.state.members.get(request.channel, ()):
            return False
        return SubscribeResult(info={"role": "member"}, data={"topic": "hooks"})

    @hooks.publish("room")
    async def may_say(request: PublishRequest) -> bool | PublishResult:
        if request.user == "slow":
            await asyncio.sleep(3600)
        if request.data == "shout":
            return PublishResult(data={"text": "SHOUT", "by": request.protocol}, tags={"loud": "yes"})
        return bool(request.data != "spam")


def calls(hooks: Hooks) -> None:
    @hooks.rpc("whoami")
    async def whoami(request: RpcRequest) -> dict[str, Any]:
        return {"user": request.user, "transport": request.transport, "said": request.data}

    @hooks.rpc("crash")
    async def crash(request: RpcRequest) -> None:
        raise ZeroDivisionError


def ends(hooks: Hooks, heard: Heard) -> None:
    failing = {"unsubscribe"}

    def hear(kind: str, event: Event) -> None:
        if kind in failing:
            # The first time.
            failing.remove(kind)
            raise ZeroDivisionError
        told = msgspec.to_builtins(event)
        heard.put((kind, {**told, "protocol": "json", "time_ms": told["time"]}))

    @hooks.disconnect
    async def disconnected(event: DisconnectEvent) -> None:
        hear("disconnect", event)

    @hooks.unsubscribe("room")
    async def unsubscribed(event: UnsubscribeEvent) -> None:
        hear("unsubscribe", event)

    @hooks.occupied("room")
    async def occupied(event: OccupiedEvent) -> None:
        hear("occupied", event)

    @hooks.vacated("room")
    async def vacated(event: VacatedEvent) -> None:
        hear("vacated", event)


@contextmanager
def own_server(settings: dict[str, Any], hooks: Hooks) -> Iterator[str]:
    with running(settings_of(**settings), hooks=hooks) as site:
        yield site.public


@contextmanager
def plain_uvicorn(settings: dict[str, Any], hooks: Hooks) -> Iterator[str]:
    with ways.plain_asgi(settings_of(**settings), hooks=hooks) as address:
        yield address


def embedded(serve: Callable[[Any, Gateway], AbstractContextManager[str]]) -> "Make":
    """In an application that has it at a path of its own."""

    @contextmanager
    def make(settings: dict[str, Any], hooks: Hooks) -> Iterator[str]:
        gateway = Gateway(settings, hooks=hooks)
        app = Starlette(routes=[Mount("/realtime", gateway)], lifespan=gateway.lifespan)
        with serve(app, gateway) as address:
            yield f"{address}/realtime"

    return make


Make = Callable[[dict[str, Any], Hooks], AbstractContextManager[str]]
WAYS: dict[str, Make] = {
    "own": own_server,
    "asgi": plain_uvicorn,
    "embedded-own": embedded(on_own_server),
    "embedded-asgi": embedded(on_uvicorn),
}


class Rules(NamedTuple):
    """An application, as a node gets it."""

    hooks: Hooks
    settings: dict[str, Any]
    heard: Heard


@contextmanager
def in_python() -> Iterator[Rules]:
    heard: Heard = SimpleQueue()
    yield Rules(rules(heard), {}, heard)


@contextmanager
def over_http() -> Iterator[Rules]:
    """The same rules, in a backend."""
    heard: Heard = SimpleQueue()
    with backend(heard) as http:
        yield Rules(Hooks(), {"hooks": {"http": http}}, heard)


@pytest.fixture(scope="module", params=[in_python, over_http], ids=["python", "http"])
def application(request: pytest.FixtureRequest) -> Iterator[Rules]:
    with request.param() as found:
        yield found


# The two that differ most, and all of them in `make test-all`.
QUICK = ("own", "embedded-asgi")


@pytest.fixture(
    scope="module", params=[way if way in QUICK else pytest.param(way, marks=pytest.mark.slow) for way in WAYS]
)
def address(request: pytest.FixtureRequest, application: Rules) -> Iterator[str]:
    hooks, settings, _ = application
    with WAYS[request.param]({**SETTINGS, **settings}, hooks) as found:
        yield found


@contextmanager
def native(address: str, cookie: str = "", *, origin: Origin = ORIGIN, token: str = "") -> Iterator[Native]:
    headers = {"Cookie": f"session={cookie}"} if cookie else {}
    url = f"ws://{address}/connection/websocket"
    with connect(
        url, additional_headers=headers, origin=origin, compression=None, proxy=None, open_timeout=PATIENCE
    ) as socket:
        yield Native(socket, token)


@contextmanager
def plain(address: str, channel: str, cookie: str) -> Iterator[ClientConnection]:
    url = f"ws://{address}/ws/{channel}"
    headers = {"Cookie": f"session={cookie}"}
    with connect(
        url, additional_headers=headers, origin=ORIGIN, compression=None, proxy=None, open_timeout=PATIENCE
    ) as socket:
        yield socket


def test_a_session_cookie_logs_in_on_every_protocol(address: str) -> None:
    """Without any token. The hook adds to the reply, to the channels and to what others see."""
    with native(address, "s-ann") as ann:
        reply = ann.connected["connect"]
        assert (reply["data"], reply["subs"].keys()) == ({"at": "127.0.0.1"}, {"lobby:all"})
        assert "expires" not in reply
        subscribed = ann.command(subscribe={"channel": "room:1"})["subscribe"]
        assert subscribed["data"] == {"topic": "hooks"}
        with plain(address, "room:1", "s-bob") as bob:
            bob.send('"hi"')
            publication = ann.publication()
            assert publication["data"] == '"hi"'
            assert publication["info"]["user"] == "bob"
            assert publication["info"]["conn_info"] == {"name": "Bob"}
            assert publication["info"]["chan_info"] == {"role": "member"}


def test_a_token_still_works(address: str) -> None:
    with native(address, token=connection_token(SECRET, "ann")) as ann:
        assert ann.command(rpc={"method": "whoami"})["rpc"]["data"]["user"] == "ann"


@pytest.mark.parametrize("cookie", ["", "forged", "s-ann, s-bob", "x" * 4000, "%00", '"'])
def test_hostile_cookies_let_nobody_in(address: str, cookie: str) -> None:
    with native(address, cookie) as client:
        assert client.connected["error"] == {"code": 103, "message": "log in first"}


def test_another_origin_is_refused_before_the_hook(address: str) -> None:
    with pytest.raises(InvalidStatus) as refused, native(address, "s-ann", origin=Origin("https://evil.example")):
        pass
    assert refused.value.response.status_code == 403


def test_a_hook_can_close(address: str) -> None:
    url, headers = f"ws://{address}/connection/websocket", {"Cookie": "session=s-banned"}
    with connect(
        url, additional_headers=headers, origin=ORIGIN, compression=None, proxy=None, open_timeout=PATIENCE
    ) as socket:
        socket.send('{"id":1,"connect":{}}')
        assert close_of(socket) == (4501, "banned")


def test_who_is_no_member_is_denied_on_every_protocol(address: str) -> None:
    with native(address, "s-ann") as ann:
        assert ann.command(subscribe={"channel": "room:2"})["error"]["code"] == 103
        assert ann.command(subscribe={"channel": "room:1"}).keys() == {"id", "subscribe"}
    with plain(address, "room:2", "s-ann") as ann_too:
        assert close_of(ann_too)[0] == NOT_PERMITTED.code


def test_publications_are_denied_or_rewritten(address: str) -> None:
    with native(address, "s-ann") as ann:
        ann.subscribe("room:1")
        assert ann.command(publish={"channel": "room:1", "data": "spam"})["error"]["code"] == 103
        ann.command(publish={"channel": "room:1", "data": "shout"})
        publication = ann.publication()
        assert publication["data"] == {"text": "SHOUT", "by": "centrifuge"}
        assert publication["tags"] == {"loud": "yes"}


def test_calls_are_answered_and_their_faults_stay_where_they_are(address: str) -> None:
    with native(address, "s-ann") as ann:
        answer = ann.command(rpc={"method": "whoami", "data": [1]})["rpc"]["data"]
        assert answer == {"user": "ann", "transport": "websocket", "said": [1]}
        assert ann.command(rpc={"method": "crash"})["error"] == {
            "code": 100,
            "message": "internal server error",
            "temporary": True,
        }
        assert ann.command(rpc={"method": "nothing"})["error"]["code"] == 104
    with native(address, "s-ann") as ann:
        pass


@pytest.mark.parametrize("policy", ["refuse", "allow"])
def test_a_backend_that_is_gone(policy: str) -> None:
    """Clients get what the settings allow, if the settings say so; others come back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}/".format(*listener.getsockname())
    http = {**dict.fromkeys(("connect", "subscribe", "publish"), url), "when_unavailable": policy}
    token = connection_token(SECRET, "ann")
    internal = {"code": 100, "message": "internal server error", "temporary": True}
    with own_server({**SETTINGS, "hooks": {"http": http}}, Hooks()) as address:
        with native(address) as nobody:
            assert nobody.connected["error"] == internal
        with native(address, token=token) as ann:
            if policy == "refuse":
                assert ann.connected["error"] == internal
                return
            ann.subscribe("lobby:all")
            assert ann.command(subscribe={"channel": "room:1"})["error"] == internal
            assert ann.command(publish={"channel": "lobby:all", "data": 1})["error"] == internal


def test_what_has_ended_is_told(address: str, application: Rules) -> None:
    """In order, with what the connect hook keeps with the connection; again after the hook has failed."""
    heard: list[tuple[str, dict[str, Any]]] = []
    with native(address, "s-ann") as ann:
        client = ann.connected["connect"]["client"]
        ann.subscribe("room:1")
        ann.command(unsubscribe={"channel": "room:1"})
        ann.subscribe("room:1")

    def of_ann() -> list[tuple[str, dict[str, Any]]]:
        return [(kind, told) for kind, told in heard if told.get("client") == client]

    while len(of_ann()) < 3 or ("vacated", "room:1") not in [(kind, told.get("channel")) for kind, told in heard]:
        heard.append(application.heard.get(timeout=PATIENCE))
    codes = [(kind, told["code"], told["reason"]) for kind, told in of_ann()]
    assert codes == [
        ("unsubscribe", 0, "client unsubscribed"),
        ("unsubscribe", 1, "client disconnected"),
        ("disconnect", 3000, "connection closed"),
    ]
    meta = of_ann()[0][1]["meta"]
    assert meta == "annann" or meta[0] == "annann"
    for kind, told in of_ann():
        assert told == {
            "id": told["id"],
            "time": told["time_ms"],
            "time_ms": told["time_ms"],
            "client": client,
            "meta": meta,
            "user": "ann",
            "address": "127.0.0.1",
            "protocol": "json",
            "transport": "websocket",
            "code": told["code"],
            "reason": told["reason"],
            **({"channel": "room:1"} if kind == "unsubscribe" else {}),
        }
    assert "occupied" in {kind for kind, _ in heard}


def test_a_slow_hook_delays_only_its_own_client(address: str) -> None:
    with native(address, "s-slow") as slow, native(address, "s-ann") as ann:
        slow.socket.send(json.dumps({"id": 9, "publish": {"channel": "room:1", "data": 1}}))
        ann.subscribe("room:1")
        for number in range(20):
            ann.command(publish={"channel": "room:1", "data": number})
            assert ann.publication()["data"] == number
