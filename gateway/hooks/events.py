"""What hooks are told has happened, at least once each. Nothing is asked."""

from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from gateway.encoding import encoded
from gateway.errors import INTERNAL, RequestError
from gateway.hooks.questions import Peer
from gateway.messages import User

# What the application wants to find again stays with every connection, and with each of its subscriptions.
META_BYTES = 16_384


class About(Struct, frozen=True, array_like=True):
    """Whom a connection or subscription belongs to, as it is kept until its end has been told."""

    client: str
    user: str
    address: str
    protocol: str
    transport: str
    # JSON, empty for none.
    meta: bytes = b""
    # Empty for a connection.
    channel: str = ""


def about(client: str, user: User, peer: Peer, channel: str = "") -> bytes:
    """The same, packed. Raises RequestError if what the connect hook keeps with it has no JSON, or one too long."""
    try:
        meta = b"" if peer.meta is None else encoded(peer.meta)
    except (TypeError, ValueError, NotImplementedError) as error:
        detail = f"ConnectResult.meta has no JSON, which the disconnect and unsubscribe hooks need: {error}"
        raise RequestError(INTERNAL, detail) from None
    if len(meta) > META_BYTES:
        detail = f"ConnectResult.meta has more than {META_BYTES} bytes: too much for disconnect and unsubscribe hooks"
        raise RequestError(INTERNAL, detail)
    return msgspec.msgpack.encode(About(client, user.name, peer.address, peer.protocol, peer.transport, meta, channel))


class Event(Struct, frozen=True, kw_only=True):
    """What all events have."""

    # The same whenever the event is told again.
    id: str
    # When it happened (Unix milliseconds).
    time: int

    @property
    def whose(self) -> str:
        """Events with the same are told one after another."""
        raise NotImplementedError

    @property
    def blamed(self) -> str:
        """Whom its failures count for."""
        return self.whose


class _OfConnection(Event, frozen=True, kw_only=True):
    # As in all requests.
    client: str
    user: str
    address: str
    protocol: str
    transport: str
    meta: Any = None
    # Why it ended: a close code or a code of unsubscribe (docs/protocol.md), and its reason.
    code: int
    reason: str

    @property
    def whose(self) -> str:
        return self.client


class DisconnectEvent(_OfConnection, frozen=True, kw_only=True):
    """A connection that the connect hook or its token had let in has ended."""


class UnsubscribeEvent(_OfConnection, frozen=True, kw_only=True):
    """A subscription has ended, perhaps with its connection."""

    # The name of the channel.
    channel: str


class _OfChannel(Event, frozen=True, kw_only=True):
    # The name of the channel.
    channel: str

    @property
    def whose(self) -> str:
        return f"channel {self.channel}"


class OccupiedEvent(_OfChannel, frozen=True, kw_only=True):
    """A channel has its first subscription in the whole cluster."""


class VacatedEvent(_OfChannel, frozen=True, kw_only=True):
    """A channel has lost its last subscription in the whole cluster, and got none for a while."""


AnyEvent: TypeAlias = DisconnectEvent | UnsubscribeEvent | OccupiedEvent | VacatedEvent


def ended(number: str, time: int, about: bytes, code: int, reason: str) -> DisconnectEvent | UnsubscribeEvent:
    """The event of an end. Raises ValueError for bytes that `about` has not made."""
    it = msgspec.msgpack.decode(about, type=About)
    common: dict[str, Any] = {
        "id": number,
        "time": time,
        "client": it.client,
        "user": it.user,
        "address": it.address,
        "protocol": it.protocol,
        "transport": it.transport,
        "meta": msgspec.json.decode(it.meta) if it.meta else None,
        "code": code,
        "reason": reason,
    }
    if it.channel:
        return UnsubscribeEvent(channel=it.channel, **common)
    return DisconnectEvent(**common)
