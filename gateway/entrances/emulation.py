"""Sessions whose clients get messages over one HTTP response, and send them in requests of their own (emulation).

Any node takes such a request: the secret that names a session begins with the node that holds it.
"""

import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from gateway.control import NodeId
from gateway.session.session import Session
from gateway.session.state import State
from gateway.session.transport import Transport

# Bytes that may wait for one session to take them, as much as one read of a socket brings.
MOST_WAITING = 256 * 1024

TAKEN = 204
MALFORMED = 400
UNKNOWN = 404
FULL = 503

_SECRET = re.compile(r"([0-9a-f]{16})\.[A-Za-z0-9_-]{22}")

Relay = Callable[[NodeId, bytes], Awaitable[bytes | None]]


class _Passed(msgspec.Struct, frozen=True, array_like=True):
    """What one node passes to another one."""

    secret: str
    data: bytes


class Owner(Protocol):
    """Where open connections are listed."""

    def opened(self, connection: "Emulated") -> None:
        """Its transport calls `closed` from now on. (A client may be gone before: that connection is told nothing.)"""

    def closed(self, secret: str) -> None:
        """The connection is gone."""


class Emulated:
    """The Connection port of a session that its client names by its secret."""

    __slots__ = ("_first", "_is_binary", "_owner", "session")

    def __init__(self, session: Session, owner: Owner, first: bytes, *, is_binary: bool) -> None:
        """`session` has a secret. `first`: what the client sent with its request, a message; `is_binary`: whether its
        messages are.
        """
        self.session = session
        self._owner = owner
        self._first = first
        self._is_binary = is_binary

    def opened(self, transport: Transport) -> None:
        first, self._first = self._first, b""
        self.session.opened(transport)
        self._owner.opened(self)
        self.session.received(first, binary=self._is_binary)

    def take(self, data: bytes) -> int:
        """What came in a request. Returns the status that answers it."""
        if self.session.state is State.CLOSED:
            # The client has not read the end of its response yet.
            return UNKNOWN
        if self.session.inbox.held + len(data) > MOST_WAITING:
            return FULL
        if not self._is_binary:
            try:
                data.decode()
            except UnicodeDecodeError:
                return MALFORMED
        self.session.received(data, binary=self._is_binary)
        return TAKEN

    def received(self, data: bytes, *, binary: bool) -> None:
        """Not called: what the client sends does not come over this transport."""

    def ponged(self) -> None:
        self.session.ponged()

    def pause_writing(self) -> None:
        self.session.pause_writing()

    def resume_writing(self) -> None:
        self.session.resume_writing()

    def closed(self, code: int, reason: str) -> None:
        self._owner.closed(self.session.secret)
        self.session.closed(code, reason)

    def shed(self) -> None:
        self.session.shed()

    def shutdown(self) -> None:
        self.session.shutdown()


class Emulations:
    """The emulated connections of this node, and the way to those of other nodes."""

    def __init__(self, uid: NodeId, relay: Relay) -> None:
        """`relay`: as Broker.relay."""
        self._uid = uid
        self._relay = relay
        self._open: dict[str, Emulated] = {}

    def new_secret(self) -> str:
        """A secret of 128 random bits, after the node."""
        return f"{self._uid}.{secrets.token_urlsafe(16)}"

    def opened(self, connection: Emulated) -> None:
        """As in the Owner port."""
        self._open[connection.session.secret] = connection

    def closed(self, secret: str) -> None:
        """As in the Owner port."""
        self._open.pop(secret, None)

    async def send(self, secret: str, data: bytes) -> int:
        """Hand a message to the session of a secret. Returns the HTTP status that answers the client.

        Raises BrokerUnavailable and OutcomeUnknown if the session is on a node that cannot be reached.
        """
        named = _SECRET.fullmatch(secret)
        if named is None:
            return UNKNOWN
        if named[1] == self._uid:
            return self._take(secret, data)
        answer = await self._relay(NodeId(named[1]), msgspec.msgpack.encode(_Passed(secret, data)))
        return UNKNOWN if answer is None else _status(answer)

    def on_relayed(self, request: bytes, answer: Callable[[bytes], None]) -> None:
        """As in the Receiver port of the broker."""
        try:
            passed = msgspec.msgpack.decode(request, type=_Passed)
        except (ValueError, RecursionError):
            # Of another version.
            answer(b"%d" % UNKNOWN)
            return
        answer(b"%d" % self._take(passed.secret, passed.data))

    def _take(self, secret: str, data: bytes) -> int:
        connection = self._open.get(secret)
        return UNKNOWN if connection is None else connection.take(data)


def _status(answer: bytes) -> int:
    """The status in the answer of another node, which may be of another version."""
    statuses = {b"%d" % status: status for status in (TAKEN, MALFORMED, UNKNOWN, FULL)}
    return statuses.get(answer, FULL)
