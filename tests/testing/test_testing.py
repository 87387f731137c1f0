"""The test kit, used as an application's tests would."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from gateway import Gateway
from gateway.client import commands
from gateway.errors import ConfigError, RequestError
from gateway.hooks import (
    ConnectRequest,
    ConnectResult,
    Denied,
    Disconnect,
    Hooks,
    PublishRequest,
    RpcRequest,
    SubscribeRequest,
    SubscribeResult,
)
from gateway.testing import Closed, ManualClock, Publication, Refused, SyncTestGateway, TestGateway

SETTINGS: dict[str, Any] = {
    "namespaces": {"room": {"delivery": "recoverable", "presence": True, "allow_presence": ["client"]}, "live": {}}
}


def application() -> Hooks:
    hooks = Hooks()

    @hooks.connect
    async def log_in(request: ConnectRequest) -> ConnectResult:
        user = request.user or request.cookie("session")
        if request.parameter("gone"):
            raise Disconnect(4500, "gone")
        if not user:
            raise Denied("log in first")
        return ConnectResult(user=user, info={"name": user.title()}, data={"hello": user, "said": request.data})

    @hooks.subscribe()
    async def may_enter(request: SubscribeRequest) -> bool | SubscribeResult:
        return SubscribeResult(data="welcome") if request.user != "eve" else False

    @hooks.publish()
    async def may_say(request: PublishRequest) -> bool:
        return bool(request.data != "spam")

    @hooks.rpc("shout")
    async def shout(request: RpcRequest) -> int:
        result = await hooks.gateway.publish("room:cats", request.data)
        return int(result.offset)

    @hooks.rpc("double")
    async def double(request: RpcRequest) -> int:
        return int(request.data * 2)

    return hooks


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 120))


def test_clients_by_user_hear_each_other() -> None:
    async def test() -> None:
        async with TestGateway(SETTINGS, hooks=application()) as gateway:
            ann, bob = await gateway.connect("ann", data={"v": 1}), await gateway.connect(cookies={"session": "bob"})
            assert ann.data == {"hello": "ann", "said": {"v": 1}}
            assert (await ann.subscribe("room:cats")).data == "welcome"
            await bob.publish("room:cats", {"text": "hi"})
            expected = Publication(channel="room:cats", data={"text": "hi"}, user="bob", info={"name": "Bob"}, offset=1)
            assert await ann.next() == expected
            await gateway.publish("room:cats", 2, tags={"a": "b"})
            assert (await ann.next()).tags == {"a": "b"}
            assert [(each.data, each.user) for each in gateway.published] == [({"text": "hi"}, "bob"), (2, "")]
            assert await ann.presence("room:cats") == {ann.id: "ann"}
            assert await bob.rpc("double", 21) == 42
            await ann.unsubscribe("room:cats")
            await bob.publish("room:cats", 3)
            with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
                await ann.next(timeout=0.01)

    run(test())


def test_hooks_use_the_methods_of_the_api() -> None:
    """So do tests; in a batch each command has its own answer."""

    async def test() -> None:
        async with TestGateway({**SETTINGS, "personal": {"enabled": True}}, hooks=application()) as gateway:
            ann = await gateway.connect("ann")
            await ann.subscribe("room:cats")
            assert await ann.rpc("shout", "HI") == 1
            assert (await ann.next()).data == "HI"
            await gateway.to_user("ann", "psst")
            assert (await ann.next()).channel == "#ann"
            stats = (await gateway.presence_stats("room:cats")).num_clients
            answers = await gateway.batch([commands.publish("room:cats", 1), commands.publish("nowhere:a", 1)])
            assert stats == 1
            assert [reply.error.code if reply.error else 0 for reply in answers.replies] == [0, 102]
        async with TestGateway(SETTINGS) as gateway:
            with pytest.raises(RequestError, match="personal channel"):
                await gateway.to_user("ann", "psst")

    run(test())


def test_what_is_refused_is_raised() -> None:
    async def test() -> None:
        async with TestGateway(SETTINGS, hooks=application()) as gateway:
            with pytest.raises(Refused, match="103 log in first"):
                await gateway.connect()
            with pytest.raises(Closed, match="4500 gone"):
                await gateway.connect("ann", query={"gone": "1"})
            with pytest.raises(Closed, match="3500 invalid token"):
                await gateway.connect(token="none")
            with pytest.raises(Closed, match="403"):
                await gateway.connect("ann", headers={"Origin": "https://evil.example"})
            eve = await gateway.connect("eve")
            with pytest.raises(Refused) as refused:
                await eve.subscribe("room:cats")
            assert refused.value.code == 103
            with pytest.raises(Refused):
                await eve.publish("room:cats", "spam")
            with pytest.raises(Refused, match="104"):
                await eve.rpc("triple")
            with pytest.raises(RequestError, match="unknown channel"):
                await gateway.publish("nowhere:a", 1)
            token = gateway.subscription_token("eve", "room:cats")
            await eve.subscribe("room:cats", token=token)

    run(test())


def test_disconnects_and_what_is_missed() -> None:
    """By the API, by losing the connection; then a client gets what it missed, or is told that it is gone."""

    async def test() -> None:
        async with TestGateway(SETTINGS, hooks=application()) as gateway:
            ann = await gateway.connect("ann")
            await ann.subscribe("room:cats")
            await ann.subscribe("live:all")
            await ann.drop()
            for number in range(3):
                await gateway.publish("room:cats", number)
            answers = await ann.reconnect()
            assert {channel: each.recovered for channel, each in answers.items()} == {
                "room:cats": True,
                "live:all": None,
            }
            assert [(await ann.next()).data for _ in range(3)] == [0, 1, 2]
            await ann.drop()
            await gateway.publish("room:cats", 3)
            await gateway.history_remove("room:cats")
            assert (await ann.reconnect())["room:cats"].recovered is False
            await gateway.unsubscribe("ann", "live:all")
            await gateway.disconnect("ann")
            assert (await ann.closed()).code == 3503
            assert ann.unsubscribed == [("live:all", 2000)]
            with pytest.raises(Closed):
                await ann.next()
            with pytest.raises(Closed):
                await ann.publish("room:cats", 1)

    run(test())


def test_time_passes_when_the_test_says_so() -> None:
    """Pings are answered, and a day takes no time; a connection ends when its token does."""

    async def test() -> None:
        clock = ManualClock()
        began = time.time()
        async with TestGateway(SETTINGS, clock=clock) as gateway:
            ann = await gateway.connect("ann")
            await clock.advance(3_000)
            token = gateway.subscription_token("ann", "room:cats")
            await ann.subscribe("room:cats", token=token)
            await clock.advance(1_000)
            assert (await ann.closed()).code == 3005
            assert clock.now() == 4_000
            assert clock.time() == pytest.approx(began + 4_000, abs=60)

    run(test())


def test_a_gateway_of_an_application_brings_its_settings_and_hooks() -> None:
    async def test() -> None:
        async with TestGateway(Gateway(SETTINGS, hooks=application())) as gateway:
            ann = await gateway.connect("ann")
            assert (await ann.subscribe("room:cats")).data == "welcome"

    run(test())


def test_wrong_settings_are_named_at_once() -> None:
    with pytest.raises(ConfigError, match="chanels"):
        TestGateway({"chanels": {}})


def test_nothing_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_REDIS__URL", "redis://nowhere.example")
    monkeypatch.setenv("GATEWAY_NAMESPACES__OTHER__PRESENCE", "true")
    assert TestGateway(SETTINGS).settings.redis.url is None
    assert "other" not in TestGateway(SETTINGS).settings.namespaces


def test_tests_without_a_loop() -> None:
    """The same, one call after another."""
    with SyncTestGateway(SETTINGS, hooks=application(), clock=ManualClock()) as gateway:
        ann, bob = gateway.connect("ann"), gateway.connect(cookies={"session": "bob"})
        assert ann.subscribe("room:cats").recovered is None
        bob.publish("room:cats", 1)
        assert ann.next().data == 1
        assert bob.rpc("double", 2) == 4
        assert ann.presence("room:cats") == {ann.id: "ann"}
        ann.drop()
        gateway.publish("room:cats", 2)
        assert ann.reconnect()["room:cats"].recovered is True
        assert ann.next().data == 2
        ann.unsubscribe("room:cats")
        assert ann.unsubscribed == []
        gateway.run(gateway.api.disconnect("bob"))
        assert bob.closed().code == 3503
        gateway.advance(4_000)
        assert ann.closed().code == 3005
        assert [each.data for each in gateway.published] == [1, 2]
    with pytest.raises(Refused), SyncTestGateway(SETTINGS, hooks=application()) as gateway:
        gateway.connect(token="")


def test_channels_of_the_server_come_back_with_the_connection() -> None:
    """Those of the connect hook, the personal one, and those subscribed to later; with what was missed."""
    hooks = Hooks()

    @hooks.connect
    async def connect(request: ConnectRequest) -> ConnectResult:
        return ConnectResult(user="ann", channels=["room:all", "live:all"])

    settings = {**SETTINGS, "personal": {"enabled": True, "namespace": "room"}}

    async def scenario() -> None:
        async with TestGateway(settings, hooks=hooks) as gateway:
            ann = await gateway.connect()
            await gateway.subscribe("ann", "room:late")
            await ann.subscribe("room:own", token=gateway.subscription_token("ann", "room:own"))
            await ann.drop()
            await gateway.publish("room:all", "missed")
            await gateway.to_user("ann", "for you")
            back = await ann.reconnect()
            recovered = {"room:all": True, "room:#ann": True, "live:all": None, "room:own": True}
            assert {channel: each.recovered for channel, each in back.items()} == recovered
            assert {(await ann.next()).data for _ in range(2)} == {"missed", "for you"}

    asyncio.run(scenario())


def test_data_that_is_lost_is_a_gap_for_all() -> None:
    """Who is there is told, and who comes back is not recovered."""

    async def scenario() -> None:
        async with TestGateway(SETTINGS, hooks=application()) as gateway:
            here, away = [await gateway.connect(name) for name in ("ann", "bob")]
            for client in (here, away):
                await client.subscribe("room:cats")
            await gateway.publish("room:cats", 1)
            await away.drop()
            await gateway.publish("room:cats", 2)
            await gateway.lose_data()
            assert here.unsubscribed == [("room:cats", 2500)]
            assert (await away.reconnect())["room:cats"].recovered is False
            assert (await gateway.history("room:cats", limit=-1)).publications == []
            await gateway.publish("room:cats", 3)
            assert [(await away.next()).data for _ in range(2)] == [1, 3]

    asyncio.run(scenario())
