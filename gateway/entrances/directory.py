"""The connections that other requests of their clients reach, on whichever node those arrive.

Such a connection has a secret, which begins with the node that holds it. The client names it in its requests.
"""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from gateway.control import NodeId

# Seconds to wait for the answer of another node, unless the request itself waits. A node answers in milliseconds.
TIME_LIMIT = 3.0
# The answer of a node that has no such connection. All others have a content.
NOBODY = b""

_SECRET = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9_-]{22}")

Answer = Callable[[bytes], None]
Relay = Callable[[NodeId, bytes, float], Awaitable[bytes | None]]


class _Passed(msgspec.Struct, frozen=True, array_like=True):
    """What one node passes to another one."""

    secret: str
    request: bytes


class Addressed(Protocol):
    """A connection that requests reach."""

    @property
    def secret(self) -> str:
        """What the client names it by."""

    def asked(self, request: bytes, answer: Answer) -> None:
        """A request came. `answer` is called once, now or later, with one byte or more; never, if it takes too long."""


class Directory:
    """The connections of this node, and the way to those of other nodes."""

    def __init__(self, uid: NodeId, relay: Relay) -> None:
        """`relay`: as Broker.relay."""
        self._uid = uid
        self._relay = relay
        self._open: dict[str, Addressed] = {}

    def new_secret(self) -> str:
        """A secret of 128 random bits, after the node."""
        return f"{self._uid}.{secrets.token_urlsafe(16)}"

    def opened(self, connection: Addressed) -> None:
        """List a connection."""
        self._open[connection.secret] = connection

    def closed(self, secret: str) -> None:
        """The connection is gone; one that was not listed is ignored."""
        self._open.pop(secret, None)

    def find(self, secret: str) -> Addressed | None:
        """The connection, if this node holds it."""
        return self._open.get(secret)

    async def ask(self, secret: str, request: bytes, seconds: float = TIME_LIMIT) -> bytes | None:
        """Pass a request to the connection of a secret. Returns its answer; None if there is no such connection.

        Raises BrokerUnavailable and OutcomeUnknown if its node is not reached, or does not answer within `seconds`.
        """
        named = _SECRET.fullmatch(secret)
        if named is None:
            return None
        if named[1] != self._uid:
            passed = msgspec.msgpack.encode(_Passed(secret, request))
            return await self._relay(NodeId(named[1]), passed, seconds) or None
        connection = self._open.get(secret)
        if connection is None:
            return None
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def answer(data: bytes) -> None:
            if not answered.done():
                answered.set_result(data)

        connection.asked(request, answer)
        return await answered

    def on_relayed(self, request: bytes, answer: Answer) -> None:
        """As in the Receiver port of the broker."""
        try:
            passed = msgspec.msgpack.decode(request, type=_Passed)
        except (ValueError, RecursionError):
            # Of another version.
            answer(NOBODY)
            return
        connection = self._open.get(passed.secret)
        if connection is None:
            answer(NOBODY)
        else:
            connection.asked(passed.request, answer)
