"""The native wire protocol: Centrifuge client protocol v2 in JSON (client.proto of centrifugal/protocol).

A frame carries commands, or replies, one JSON object per line. Payloads are never parsed into Python objects: they
are taken as raw JSON and inserted into replies and pushes.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import msgspec

from gateway.errors import BAD_COMMAND, CloseCode, Disconnect, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    ConnectResult,
    Event,
    HistoryPage,
    Kind,
    MemberCounts,
    Membership,
    Publication,
    RefreshResult,
    Request,
    SubscribeResult,
)
from gateway.protocols.centrifuge_commands import cut, decode
from gateway.protocols.deltas import differences
from gateway.protocols.frames import frames
from gateway.protocols.payload import as_json
from gateway.protocols.wire_protocol import Heartbeat, Message

_PING = (Message(b"{}"),)


class CentrifugeProtocol:
    """Commands in, replies and pushes out. Stateless, so it is also the codec of all its connections."""

    heartbeat = Heartbeat.ANSWERED

    def open(self) -> "CentrifugeProtocol":
        return self

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """Raises Disconnect(3501) for anything but one command."""
        if binary:
            # The binary encoding of this protocol is Protobuf, for which the client did not ask.
            raise Disconnect(BAD_COMMAND, "binary frame on a JSON connection")
        return decode(command)

    def count(self, data: bytes) -> int:
        # Counts empty lines too, but none after a final line break.
        return data.count(b"\n", 0, -1) + 1

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        return cut(data, start)

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        parts = [
            b'{"id":%d,"connect":{"client":"%b","version":"%b"' % (id, result.client.encode(), result.version.encode())
        ]
        if result.ping:
            parts.append(b',"ping":%d' % result.ping)
        if result.pong:
            parts.append(b',"pong":true')
        if result.expires:
            parts.append(b',"expires":true,"ttl":%d' % result.ttl)
        if result.node:
            parts.append(b',"node":%b' % _quote(result.node))
        if result.session:
            parts.append(b',"session":"%b"' % result.session.encode())
        if result.data:
            parts.append(b',"data":%b' % result.data)
        if result.subs:
            subs = (b"%b:{%b}" % (_quote(name), _subscription(sub)) for name, sub in result.subs.items())
            parts.append(b',"subs":{%b}' % b",".join(subs))
        parts.append(b"}}")
        return (Message(b"".join(parts)),)

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        return (Message(b'{"id":%d,"subscribe":{%b}}' % (id, _subscription(result))),)

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        expiry = b',"expires":true,"ttl":%d' % result.ttl if result.expires else b""
        reply = b'{"id":%d,"refresh":{"client":"%b","version":"%b"%b}}'
        return (Message(reply % (id, result.client.encode(), result.version.encode(), expiry)),)

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        return (Message(b'{"id":%d,"sub_refresh":{%b}}' % (id, _subscription(result))),)

    def unsubscribed(self, id: int) -> Sequence[Message]:
        return (Message(b'{"id":%d,"unsubscribe":{}}' % id),)

    def published(self, id: int) -> Sequence[Message]:
        return (Message(b'{"id":%d,"publish":{}}' % id),)

    def history(self, id: int, page: HistoryPage) -> Sequence[Message]:
        found = b",".join(map(_publication, page.publications))
        reply = b'{"id":%d,"history":{"publications":[%b],"epoch":%b,"offset":%d}}'
        return (Message(reply % (id, found, _quote(page.top.epoch), page.top.offset)),)

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        found = b",".join(b"%b:%b" % (_quote(member.client), _client_info(member)) for member in members)
        return (Message(b'{"id":%d,"presence":{"presence":{%b}}}' % (id, found)),)

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        reply = b'{"id":%d,"presence_stats":{"num_clients":%d,"num_users":%d}}'
        return (Message(reply % (id, counts.clients, counts.users)),)

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        return (Message(b'{"id":%d,"rpc":{"data":%b}}' % (id, data)),)

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        temporary = b',"temporary":true' if error.temporary else b""
        text = _quote(error.message)
        return (Message(b'{"id":%d,"error":{"code":%d,"message":%b%b}}' % (id, error.code, text, temporary)),)

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        head = _push_head(events[0].channel.name)
        if len(events) == 1:
            return (Message(b"%b%b}}" % (head, _event(events[0]))),)
        return _shared([b"%b%b}}" % (head, _event(event)) for event in events])

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        """Here `data` is a JSON string that holds the payload, or a Fossil delta from the previous one."""
        head = _push_head(events[0].channel.name)
        lines = []
        for event, data, is_delta in differences(base, events, as_json):
            if type(event) is Publication:
                shown = _text(data) + (b',"delta":true' if is_delta else b"")
                lines.append(b'%b"pub":%b}}' % (head, _publication(event, shown)))
            else:
                lines.append(b"%b%b}}" % (head, _event(event)))
        return _shared(lines)

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        # The push has no field for missed publications: they follow it.
        told = msgspec.structs.replace(result, publications=(), recovered=None)
        push = Message(b'{"push":{"channel":%b,"subscribe":{%b}}}' % (_quote(channel), _subscription(told)))
        return (push, *self.events(result.publications)) if result.publications else (push,)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        push = b'{"push":{"channel":%b,"unsubscribe":{"code":%d,"reason":%b}}}'
        return (Message(push % (_quote(channel), code.code, _quote(code.reason))),)

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        expiry = b'"expires":true,"ttl":%d' % ttl if ttl else b""
        return (Message(b'{"push":{"refresh":{%b}}}' % expiry),)

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        if is_told:
            return ()
        push = b'{"push":{"disconnect":{"code":%d,"reason":%b}}}'
        return (Message(push % (code.code, _quote(code.reason))),)

    def ping(self) -> Sequence[Message]:
        return _PING

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        return _shared([message.data for message in messages])


class SilentCentrifugeProtocol(CentrifugeProtocol):
    """Without pings: those of the transport take their place, which clients answer that know nothing of protocols."""

    def open(self) -> "SilentCentrifugeProtocol":
        return self

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        return super().connected(id, msgspec.structs.replace(result, ping=0, pong=False))

    def ping(self) -> Sequence[Message]:
        return ()


def _quote(text: str) -> bytes:
    """A JSON string."""
    return msgspec.json.encode(text)


@lru_cache(maxsize=4096)
def _push_head(channel: str) -> bytes:
    """The start of a push, the same for all pushes of a channel."""
    return b'{"push":{"channel":%b,' % _quote(channel)


def _event(event: Event) -> bytes:
    """The member of a push for this event, with its name."""
    if type(event) is Publication:
        return b'"pub":%b' % _publication(event)
    assert type(event) is Membership
    return b'"%b":{"info":%b}' % (b"join" if event.joined else b"leave", _client_info(event.info))


def _subscription(result: SubscribeResult) -> bytes:
    """The fields of a SubscribeResult, without the braces."""
    fields = []
    if result.expires:
        fields.append(b'"expires":true,"ttl":%d' % result.ttl)
    if result.data:
        fields.append(b'"data":%b' % result.data)
    if result.position is not None:
        epoch = _quote(result.position.epoch)
        fields.append(b'"recoverable":true,"positioned":true,"epoch":%b' % epoch)
        if result.position.offset:
            fields.append(b'"offset":%d' % result.position.offset)
    if result.delta:
        fields.append(b'"delta":true')
    if result.recovered is not None:
        fields.append(b'"was_recovering":true')
    if result.recovered:
        fields.append(b'"recovered":true')
    if result.publications:
        fields.append(b'"publications":[%b]' % b",".join(_recovered(result)))
    return b",".join(fields)


def _recovered(result: SubscribeResult) -> Iterator[bytes]:
    """The recovered publications, in full even where deltas were negotiated."""
    for publication in result.publications:
        yield _publication(publication, _text(as_json(publication)) if result.delta else b"")


def _client_info(info: ClientInfo) -> bytes:
    parts = [b'{"user":%b,"client":%b' % (_quote(info.user), _quote(info.client))]
    if info.conn_info:
        parts.append(b',"conn_info":%b' % info.conn_info)
    if info.chan_info:
        parts.append(b',"chan_info":%b' % info.chan_info)
    parts.append(b"}")
    return b"".join(parts)


def _shared(lines: Iterable[bytes]) -> Sequence[Message]:
    return frames(lines, b"\n", binary=False)


def _text(data: bytes) -> bytes:
    """The `data` member of a publication, where deltas were negotiated: the payload or a delta as a string."""
    return _quote(data.decode())


def _publication(publication: Publication, data: bytes = b"") -> bytes:
    """A Publication object of the protocol; `data`, if given, replaces the payload."""
    data = data or (publication.data if publication.kind is Kind.JSON else as_json(publication))
    if publication.info is None and not publication.offset and publication.tags is None:
        return b'{"data":%b}' % data
    parts = [b'{"data":', data]
    if publication.info is not None:
        parts += [b',"info":', _client_info(publication.info)]
    if publication.offset:
        parts.append(b',"offset":%d' % publication.offset)
        if publication.offset == 1:
            # Tells the epoch to clients that subscribed before the stream existed.
            parts.append(b',"epoch":%b' % _quote(publication.epoch))
    if publication.tags:
        parts += [b',"tags":', msgspec.json.encode(publication.tags)]
    parts.append(b"}")
    return b"".join(parts)
