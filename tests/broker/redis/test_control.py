"""Control messages when some of those who should answer do not, or answer strangely."""

import asyncio

import msgspec
import pytest
import redis

from gateway.broker.base import Receiver
from gateway.broker.envelope import EnvelopeError
from gateway.broker.redis import control as module
from gateway.broker.redis.control import REPLY, REQUEST, ControlMessages
from gateway.broker.redis.keys import Keys, LeaseId
from gateway.control import ControlResult, DisconnectUser, NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from tests.broker.members import PATIENCE, Inbox, redis_member
from tests.broker.redis.nodes import settings, two, until_health
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
        exchange.messages.on_request(REQUEST + body, receiver)
        assert inbox.controls == [MESSAGE]
        ((node, payload),) = exchange.replies
        assert node == "b"
        assert msgspec.msgpack.decode(payload.removeprefix(REPLY)) == [9, "a", 5]
        for garbage in (b"", REQUEST, REPLY + body, REQUEST + body[:-3], REQUEST + b"\x91" * 5000 + b"\x01"):
            with pytest.raises(EnvelopeError):
                exchange.messages.on_request(garbage, receiver)
        assert len(inbox.controls) == len(exchange.replies) == 1

    asyncio.run(scenario())


def test_a_message_of_a_newer_version_is_no_fault() -> None:
    """More fields than this version knows are passed over, so that nodes of two versions work together."""

    async def scenario() -> None:
        exchange, inbox = Exchange(), Inbox()
        more = {"type": "disconnect", "app": "default", "user": "42", "mood": "grumpy"}
        exchange.messages.on_request(REQUEST + msgspec.msgpack.encode((9, "b", more, "news")), inbox)
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
                client.delete(Keys("gw", 16).lease(LeaseId("b0000")))
            assert await here.broker.control(MESSAGE) == ControlResult(1, 1, 1)

    asyncio.run(scenario())


def test_what_redis_does_not_take_is_told(server: ValkeyServer) -> None:
    """Refused, away, or silent: the last may have had an effect."""

    async def scenario() -> None:
        with redis.Redis.from_url(server.url) as client:
            async with two(server.url) as (here, there):
                client.execute_command("ACL SETUSER default -publish")
                with pytest.raises(BrokerUnavailable, match="NOPERM"):
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
