"""Requests of clients that one node passes to another one, which holds the client's session."""

import asyncio
from collections.abc import Callable

import hiredis
import msgspec

from gateway.broker.base import Receiver
from gateway.broker.envelope import VERSION
from gateway.broker.redis.control_messages import decode, without_head
from gateway.broker.redis.kept_link import KeptLink
from gateway.broker.redis.keyspace import Keys
from gateway.broker.redis.link import pack
from gateway.control import NodeId
from gateway.errors import BrokerUnavailable, OutcomeUnknown
from gateway.metrics import Metrics

# Bytes that a request takes beside its data while it waits.
OVERHEAD = 2_000

REQUEST = VERSION + b"q"
ANSWER = VERSION + b"a"


class _Request(msgspec.Struct, frozen=True, array_like=True):
    id: int
    sender: NodeId
    data: bytes


class _Answer(msgspec.Struct, frozen=True, array_like=True):
    id: int
    data: bytes


class Relay:
    """Asks the bus channel of one node, in the order of the calls, and answers what comes on the one of this node."""

    def __init__(self, uid: NodeId, keys: Keys, link: KeptLink, limit: int, metrics: Metrics) -> None:
        """`limit`: bytes at which nothing more is passed on: those that Redis has not answered yet, and those that wait
        for the answers of nodes.
        """
        self._uid = uid
        self._keys = keys
        self._link = link
        self._limit = limit
        self._next_id = 0
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        self._waiting_bytes = 0
        self._outcomes = metrics.relayed
        metrics.relayed_waiting.read = lambda: len(self._waiting)

    async def ask(self, node: NodeId, data: bytes, seconds: float) -> bytes | None:
        """As Broker.relay."""
        try:
            answer = await self._ask(node, data, seconds)
        except BrokerUnavailable:
            self._outcomes.add("refused")
            raise
        except OutcomeUnknown:
            self._outcomes.add("no answer")
            raise
        self._outcomes.add("no such node" if answer is None else "answered")
        return answer

    async def _ask(self, node: NodeId, data: bytes, seconds: float) -> bytes | None:
        if self._link.pending_bytes > self._limit or self._waiting_bytes > self._limit:
            raise BrokerUnavailable("too much waits for Redis or for other nodes (redis.pending_limit)")
        self._next_id += 1
        id = self._next_id
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[id] = answer
        size = len(data) + OVERHEAD
        self._waiting_bytes += size
        try:
            async with asyncio.timeout(seconds):
                request = REQUEST + msgspec.msgpack.encode(_Request(id, self._uid, data))
                if not await self._link.ask(b"PUBLISH", self._keys.node(node), request):
                    # Nobody listens: the node is gone.
                    return None
                return await answer
        except TimeoutError:
            raise OutcomeUnknown(f"no answer from the node of the session within {seconds:g} s") from None
        except hiredis.ReplyError as error:
            raise BrokerUnavailable(f"Redis refused to pass on a request: {error}") from None
        finally:
            del self._waiting[id]
            self._waiting_bytes -= size

    def on_request(self, payload: bytes, receiver: Receiver) -> None:
        """A request came. Raises EnvelopeError."""
        request = decode(without_head(payload, REQUEST), _Request)
        receiver.on_relayed(request.data, self._answer_to(request))

    def _answer_to(self, request: _Request) -> Callable[[bytes], None]:
        def answer(data: bytes) -> None:
            if (link := self._link.current) is not None:
                message = ANSWER + msgspec.msgpack.encode(_Answer(request.id, data))
                link.send(pack(b"PUBLISH", self._keys.node(request.sender), message), lambda reply: None)

        return answer

    def on_answer(self, payload: bytes) -> None:
        """An answer came. Raises EnvelopeError."""
        answer = decode(without_head(payload, ANSWER), _Answer)
        waiting = self._waiting.get(answer.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer.data)
