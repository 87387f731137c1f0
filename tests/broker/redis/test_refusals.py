"""Publishes that Redis itself refuses: certainly not carried out, and safe to repeat."""

import asyncio
from unittest.mock import ANY

import pytest
import redis

from gateway.errors import BrokerUnavailable
from gateway.messages import PUBLISHED, Publication, PublishOptions, PublishResult, Retention
from tests.broker.members import redis_member
from tests.broker.redis.nodes import ROOM, settings, two
from tests.servers import ValkeyServer


def test_a_flushed_script_is_loaded_again(server: ValkeyServer) -> None:
    """The publish that met it has failed for certain, and may be repeated."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            await there.publish(ROOM, b"1", "one")
            with redis.Redis.from_url(server.url) as client:
                client.script_flush()
            with pytest.raises(BrokerUnavailable, match="NOSCRIPT"):
                await there.publish(ROOM, b"2", "two")
            await there.publish(ROOM, b"2", "two")
            await here.inbox.until(lambda: here.inbox.data == [b"1", b"2"])

    asyncio.run(scenario())


def test_what_redis_refuses_is_told_with_its_reason(server: ValkeyServer) -> None:
    """Out of memory, for example. It was not carried out."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                client.config_set("maxmemory", 1)
                with pytest.raises(BrokerUnavailable, match="OOM"):
                    await there.publish(ROOM, b"1", "key")
                assert there.metrics.publish_errors.values == {"refused by redis": 1}
                client.config_set("maxmemory", 0)
            await there.publish(ROOM, b"2", "key")
            await here.inbox.until(lambda: here.inbox.data == [b"2"])

    asyncio.run(scenario())


def test_a_key_of_a_refused_publish_is_not_used_up(server: ValkeyServer) -> None:
    """The operator forgot `&*` for the user of this node: repeating is told the truth, and works once it is mended."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            client.execute_command(
                "ACL SETUSER ada on >geheim ~* +@all resetchannels &gw:{home}:control* &gw:{home}:node*"
            )
            limited = settings(f"redis://ada:geheim@127.0.0.1:{server.port}/0")
            async with redis_member(settings(server.url), "a") as here, redis_member(limited, "b") as there:
                await here.subscribe(ROOM)
                for _ in range(2):
                    with pytest.raises(BrokerUnavailable, match="channel"):
                        await there.publish(ROOM, b"1", "key")
                client.execute_command("ACL SETUSER ada allchannels")
                await there.publish(ROOM, b"1", "key")
                await there.publish(ROOM, b"1", "key")
                await there.publish(ROOM, b"2")
                await here.inbox.until(lambda: b"2" in here.inbox.data)
                assert here.inbox.data == [b"1", b"2"]

    asyncio.run(scenario())


def test_nothing_overtakes_a_publish_that_met_a_flushed_script(server: ValkeyServer) -> None:
    """Publishes sent together: those that find no script have failed for certain, the others arrive in order."""

    async def scenario() -> None:
        async with two(server.url) as (here, there):
            with redis.Redis.from_url(server.url) as client:
                client.script_flush()
            futures = [
                there.start_publish(Publication(ROOM, b"%d" % number), PublishOptions(f"key{number}" * (number % 2)))
                for number in range(20)
            ]
            outcomes = await asyncio.gather(*futures)
            accepted = [b"%d" % number for number, outcome in enumerate(outcomes) if outcome == PUBLISHED]
            assert accepted == [b"%d" % number for number in range(0, 20, 2)]
            assert {type(outcome) for outcome in outcomes} == {PublishResult, BrokerUnavailable}
            for number in range(1, 20, 2):
                await there.publish(ROOM, b"%d" % number, f"key{number}")
                accepted.append(b"%d" % number)
            await here.inbox.until(lambda: len(here.inbox.data) == 20)
            assert here.inbox.data == accepted

    asyncio.run(scenario())


def test_a_refused_append_uses_no_offset_up(server: ValkeyServer) -> None:
    """Somebody else has written into the stream: what is published once that is gone follows without a hole."""
    kept = PublishOptions(history=Retention(50, 300, 3000))

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            assert await here.start_publish(Publication(ROOM, b"1"), kept) == (1, ANY)
            with redis.Redis.from_url(server.url) as client:
                (stream,) = client.scan_iter("gw:*:stream:*")
                client.xadd(stream, {"d": b"x"}, id="10-0")
                refused = await here.start_publish(Publication(ROOM, b"2"), kept)
                assert isinstance(refused, BrokerUnavailable)
                client.delete(stream)
            assert await here.start_publish(Publication(ROOM, b"2"), kept) == (2, ANY)

    asyncio.run(scenario())
