"""Control messages when some of those who should answer do not, or answer strangely."""

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest
import redis

from gateway.broker.base import Receiver
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import control_messages as module
from gateway.broker.redis.control_log import KEPT
from gateway.broker.redis.control_messages import REPLY, ControlMessages
from gateway.broker.redis.keyspace import LeaseId
from gateway.control import ControlResult, DisconnectUser, NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from tests.broker.members import PATIENCE, Inbox, redis_member
from tests.broker.redis.nodes import KEYS, ROOM, settings, two, until_health
from tests.broker.redis.proxy import proxied
from tests.servers import ValkeyServer

MESSAGE = DisconnectUser("default", "42")


class Exchange:
    """One node's control messages on a bus that keeps everything."""

    def __init__(self) -> None:
        self.replies: list[tuple[NodeId, bytes]] = []
        self.requests: list[bytes] = []
        self.sent = asyncio.Event()
        self.messages = ControlMessages(NodeId("a"), lambda node, payload: self.replies.append((node, payload)))

    async def publish(self, payload: bytes) -> None:
        self.requests.append(payload)
        self.sent.set()

    def answer(self, node: str, affected: int, id: int = 1) -> None:
        self.messages.on_reply(REPLY + msgspec.msgpack.encode((id, node, affected)))


def test_only_answers_to_the_question_count_and_each_node_once() -> None:
    """A repeated answer, one to another question and one of a node nobody knew of change no counts but their own."""

    async def scenario() -> None:
        exchange = Exchange()
        asked = asyncio.create_task(exchange.messages.ask(MESSAGE, {NodeId("a"), NodeId("b")}, exchange.publish))
        await exchange.sent.wait()
        exchange.answer("b", 3)
        exchange.answer("b", 3)
        exchange.answer("a", 7, id=99)
        exchange.answer("new", 1)
        assert not asked.done()
        exchange.answer("a", 2)
        exchange.answer("late", 1)
        async with asyncio.timeout(PATIENCE):
            assert await asked == ControlResult(4, 4, 7)
        exchange.answer("b", 3)

    asyncio.run(scenario())


def test_a_node_that_does_not_answer_is_not_waited_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The result shows that it is missing, and the log says which."""
    monkeypatch.setattr(module, "TIME_LIMIT", 0.05)

    async def scenario() -> None:
        exchange = Exchange()
        asked = asyncio.create_task(
            exchange.messages.ask(MESSAGE, {NodeId("a"), NodeId("b"), NodeId("dead")}, exchange.publish)
        )
        await exchange.sent.wait()
        exchange.answer("a", 1)
        exchange.answer("b", 1)
        async with asyncio.timeout(PATIENCE):
            assert await asked == ControlResult(3, 2, 2)
        assert "no answer to a control message from: dead" in caplog.text

    asyncio.run(scenario())


def test_a_request_is_carried_out_and_answered_to_who_asked() -> None:
    async def scenario() -> None:
        exchange, inbox = Exchange(), Inbox()
        receiver: Receiver = inbox
        inbox.affected = 5
        body = msgspec.msgpack.encode((9, "b", MESSAGE))
        exchange.messages.on_request(body, receiver)
        assert inbox.controls == [MESSAGE]
        ((node, payload),) = exchange.replies
        assert node == "b"
        assert msgspec.msgpack.decode(payload.removeprefix(REPLY)) == [9, "a", 5]
        for garbage in (b"", REPLY + body, body[:-3], b"\x91" * 5000 + b"\x01"):
            with pytest.raises(EnvelopeError):
                exchange.messages.on_request(garbage, receiver)
        assert len(inbox.controls) == len(exchange.replies) == 1

    asyncio.run(scenario())


def test_a_message_of_a_newer_version_is_no_fault() -> None:
    """More fields than this version knows are passed over, so that nodes of two versions work together."""

    async def scenario() -> None:
        exchange, inbox = Exchange(), Inbox()
        more = {"type": "disconnect", "app": "default", "user": "42", "mood": "grumpy"}
        exchange.messages.on_request(msgspec.msgpack.encode((9, "b", more, "news")), inbox)
        assert inbox.controls == [MESSAGE]

    asyncio.run(scenario())


def test_a_dead_node_counts_until_its_lease_ends(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT", 0.2)

    async def scenario() -> None:
        async with redis_member(settings(server.url), "a") as here:
            async with redis_member(settings(server.url), "b") as there:
                assert await here.broker.control(MESSAGE) == ControlResult(2, 2, 2)
                assert there.inbox.controls == [MESSAGE]
            # Gone without a word.
            assert await here.broker.control(MESSAGE) == ControlResult(2, 1, 1)
            with redis.Redis.from_url(server.url) as client:
                client.delete(KEYS.lease(LeaseId("b0000")))
            assert await here.broker.control(MESSAGE) == ControlResult(1, 1, 1)

    asyncio.run(scenario())


def names(inbox: Inbox) -> list[str]:
    """Whom the control messages were about."""
    return [each.user for each in inbox.controls if isinstance(each, DisconnectUser)]


def test_who_was_cut_off_catches_up_before_it_hears_anything_else(server: ValkeyServer) -> None:
    """Each message once, in order, those that come meanwhile behind those of the log."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy, redis_member(settings(server.url), "a") as there:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0")
            async with redis_member(through, "b") as here:
                await here.subscribe(ROOM)
                for number in range(3):
                    await there.broker.control(DisconnectUser("default", f"before {number}"))
                await here.inbox.until(lambda: len(here.inbox.controls) == 3)
                proxy.swallow()
                proxy.cut()
                await until_health(here, False)
                await there.publish(ROOM, b"missed")
                missed = [DisconnectUser("default", f"missed {number}") for number in range(5)]
                await asyncio.gather(*(there.broker.control(each) for each in missed))
                assert names(here.inbox) == [f"before {n}" for n in range(3)]
                heard = len(here.inbox.gaps)
                proxy.forward()
                await here.inbox.until(lambda: len(here.inbox.gaps) > heard)
                # In the order of Redis.
                assert names(here.inbox)[3:] == names(there.inbox)[3:]
                assert sorted(names(here.inbox)[3:]) == [f"missed {n}" for n in range(5)]
                assert here.inbox.caught_up == 2
                await there.broker.control(DisconnectUser("default", "after"))
                await here.inbox.until(lambda: names(here.inbox)[-1] == "after")
                assert (here.inbox.control_lost, names(here.inbox).count("after")) == (0, 1)

    asyncio.run(scenario())


def test_who_was_cut_off_for_too_long_is_told(server: ValkeyServer) -> None:
    """The log is bounded; what Redis lost altogether is no reason, since nobody could be told of anything then."""

    async def scenario() -> None:
        async with proxied(server.port) as proxy, redis_member(settings(server.url), "a") as there:
            through = settings(f"redis://127.0.0.1:{proxy.port}/0", durable=True)
            async with redis_member(through, "b") as here:
                log = KEYS.control_log()
                with redis.Redis.from_url(server.url) as client:
                    for lost in (False, True):
                        await there.broker.control(DisconnectUser("default", "seen"))
                        await here.inbox.until(lambda: names(here.inbox)[-1:] == ["seen"])
                        proxy.swallow()
                        proxy.cut()
                        await until_health(here, False)
                        client.delete(log)
                        message = msgspec.msgpack.encode((1, "x", DisconnectUser("default", "unseen")))
                        for _ in range(KEPT if lost else 3):
                            client.xadd(log, {"m": message})
                        proxy.forward()
                        await until_health(here, True)
                        assert here.inbox.control_lost == lost
                        assert names(here.inbox)[-3:] == ["unseen"] * 3

    asyncio.run(scenario())


def test_what_is_wrong_in_the_log_is_left_out(server: ValkeyServer) -> None:
    wrong = [{"": b""}, {"m": b"nonsense"}, {"m": b""}, {"other": b"1"}]

    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(proxied(server.port))
            there = await stack.enter_async_context(redis_member(settings(server.url), "a"))
            through = settings(f"redis://127.0.0.1:{proxy.port}/0")
            here = await stack.enter_async_context(redis_member(through, "b"))
            proxy.swallow()
            proxy.cut()
            await until_health(here, False)
            with redis.Redis.from_url(server.url) as client:
                for entry in wrong:
                    client.xadd(KEYS.control_log(), entry)
            await there.broker.control(MESSAGE)
            proxy.forward()
            await here.inbox.until(lambda: here.inbox.controls == [MESSAGE])
            assert here.metrics.broker_invalid.value == len(wrong)
            await until_health(here, True)

    asyncio.run(scenario())


def test_a_message_goes_out_when_memory_is_out(server: ValkeyServer) -> None:
    """It cannot be kept for those who are cut off."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with two(server.url) as (here, there):
                client.config_set("maxmemory", 1)
                try:
                    assert (await here.broker.control(MESSAGE)).replies == 2
                finally:
                    client.config_set("maxmemory", 0)
                assert there.inbox.controls == [MESSAGE]
                assert client.xlen(KEYS.control_log()) == 0

    asyncio.run(scenario())


def test_what_redis_does_not_take_is_told(server: ValkeyServer) -> None:
    """Refused, away, or silent: the last may have had an effect."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with two(server.url) as (here, there):
                client.execute_command("ACL SETUSER default -publish")
                with pytest.raises(BrokerUnavailable, match="permission"):
                    await here.broker.control(MESSAGE)
                client.execute_command("ACL SETUSER default +publish")
                server.freeze()
                asked = asyncio.create_task(here.broker.control(MESSAGE))
                with pytest.raises((BrokerUnavailable, OutcomeUnknown)):
                    await asked
                server.thaw()
                for member in (here, there):
                    await until_health(member, True)
                server.kill()
                await until_health(here, False)
                with pytest.raises(BrokerUnavailable):
                    await here.broker.control(MESSAGE)

    asyncio.run(scenario())
