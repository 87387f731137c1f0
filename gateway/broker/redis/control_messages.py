"""Control messages: from one node to all nodes, each of which answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from gateway.broker.base import Receiver
from gateway.broker.envelope import VERSION, EnvelopeError
from gateway.control import Answer, Control, ControlResult, NodeId, check

logger = logging.getLogger(__name__)

# Seconds to wait for the answers of all live nodes. A node answers in milliseconds. A node that is dead or cut off
# counts as live until its lease ends, which is too long for an operator who revokes a token.
TIME_LIMIT = 2.0

REQUEST = VERSION + b"c"
REPLY = VERSION + b"r"


class _Request(msgspec.Struct, frozen=True, array_like=True):
    id: int
    sender: NodeId
    message: Control


class _Reply(msgspec.Struct, frozen=True, array_like=True):
    id: int
    node: NodeId
    answer: Answer


class _Question:
    """A control message that is being answered."""

    __slots__ = ("answers", "done", "expected")

    def __init__(self, expected: set[NodeId], done: asyncio.Future[None]) -> None:
        self.expected = expected
        self.answers: dict[NodeId, Answer] = {}
        self.done = done


class ControlMessages:
    """Sends, receives and counts. `publish` raises what Broker.control raises."""

    def __init__(self, uid: NodeId, reply: Callable[[NodeId, bytes], None]) -> None:
        """`reply` publishes bytes to one node, without waiting."""
        self._uid = uid
        self._reply = reply
        self._next_id = 0
        self._questions: dict[int, _Question] = {}

    async def ask(
        self, message: Control, nodes: set[NodeId], publish: Callable[[bytes], Awaitable[None]]
    ) -> ControlResult:
        """Send a message to `nodes` (those alive) by `publish`, and wait for their answers."""
        self._next_id += 1
        id = self._next_id
        question = _Question(nodes, asyncio.get_running_loop().create_future())
        self._questions[id] = question
        try:
            await publish(msgspec.msgpack.encode(_Request(id, self._uid, message)))
            async with asyncio.timeout(TIME_LIMIT):
                await question.done
        except TimeoutError:
            missing = ", ".join(sorted(nodes - question.answers.keys()))
            logger.warning("no answer to a control message from: %s", missing)
        finally:
            del self._questions[id]
        return ControlResult.of(len(nodes | question.answers.keys()), list(question.answers.values()))

    def on_request(self, payload: bytes, receiver: Receiver) -> None:
        """A control message came, over the bus or from the log. Raises EnvelopeError."""
        request = decode(payload, _Request)
        try:
            check(request.message)
        except ValueError as error:
            raise EnvelopeError(str(error)) from None
        answer = receiver.on_control(request.message)
        self._reply(request.sender, REPLY + msgspec.msgpack.encode(_Reply(request.id, self._uid, answer)))

    def on_reply(self, payload: bytes) -> None:
        """An answer arrived. Raises EnvelopeError."""
        reply = decode(without_head(payload, REPLY), _Reply)
        question = self._questions.get(reply.id)
        if question is None or reply.node in question.answers:
            return
        question.answers[reply.node] = reply.answer
        if question.expected <= question.answers.keys() and not question.done.done():
            question.done.set_result(None)


T = TypeVar("T")


def without_head(payload: bytes, head: bytes) -> bytes:
    """The payload after its head. Raises EnvelopeError for another head."""
    if not payload.startswith(head):
        raise EnvelopeError(f"version or type {payload[:2]!r} instead of {head!r}")
    return payload[len(head) :]


def decode(payload: bytes, shape: type[T]) -> T:
    """Raises EnvelopeError."""
    try:
        return msgspec.msgpack.decode(payload, type=shape)
    except (ValueError, RecursionError) as error:
        raise EnvelopeError(str(error)) from None
