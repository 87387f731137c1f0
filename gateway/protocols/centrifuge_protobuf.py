"""The native wire protocol in Protobuf: Centrifuge client protocol v2 (client.proto of centrifugal/protocol).

A frame carries commands, or replies, each behind its length. Payloads are bytes: JSON and text as they are.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import msgspec

from gateway.errors import BAD_COMMAND, CloseCode, Disconnect, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    ConnectResult,
    Event,
    HistoryPage,
    MemberCounts,
    Membership,
    Publication,
    RefreshResult,
    Request,
    SubscribeResult,
)
from gateway.protocols.centrifuge_protobuf_commands import count, cut, decode
from gateway.protocols.deltas import differences
from gateway.protocols.frames import frames
from gateway.protocols.protobuf_wire import LENGTH, VARINT, tag_of, written
from gateway.protocols.wire_protocol import Heartbeat, Message

# An empty reply: nothing behind a length of 0.
_PING = (Message(b"\0", binary=True),)


class CentrifugeProtobufProtocol:
    """Commands in, replies and pushes out. Stateless, so it is also the codec of all its connections."""

    heartbeat = Heartbeat.ANSWERED

    def open(self) -> "CentrifugeProtobufProtocol":
        return self

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """Raises Disconnect(3501) for anything but one command."""
        if not binary:
            raise Disconnect(BAD_COMMAND, "text frame on a Protobuf connection")
        return decode(command)

    def count(self, data: bytes) -> int:
        return count(data)

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        return cut(data, start)

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        fields = [
            _text(1, result.client),
            _text(2, result.version),
            *_expiry(3, result.expires, result.ttl),
            _bytes(5, result.data),
            *_map(6, ((name, _subscription(sub)) for name, sub in (result.subs or {}).items())),
            _number(7, result.ping),
            _number(8, result.pong),
            _text(9, result.session),
            _text(10, result.node),
        ]
        return _reply(id, 5, b"".join(fields))

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        return _reply(id, 6, _subscription(result))

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        fields = [_text(1, result.client), _text(2, result.version), *_expiry(3, result.expires, result.ttl)]
        return _reply(id, 14, b"".join(fields))

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        return _reply(id, 15, b"".join(_expiry(1, result.expires, result.ttl)))

    def unsubscribed(self, id: int) -> Sequence[Message]:
        return _reply(id, 7, b"")

    def published(self, id: int) -> Sequence[Message]:
        return _reply(id, 8, b"")

    def history(self, id: int, page: HistoryPage) -> Sequence[Message]:
        fields = [_message(1, _publication(each)) for each in page.publications]
        fields += (_text(2, page.top.epoch), _number(3, page.top.offset))
        return _reply(id, 11, b"".join(fields))

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        return _reply(id, 9, b"".join(_map(1, ((member.client, _client_info(member)) for member in members))))

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        return _reply(id, 10, _number(1, counts.clients) + _number(2, counts.users))

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        return _reply(id, 13, _bytes(1, data))

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        return _reply(id, 2, _number(1, error.code) + _text(2, error.message) + _number(3, error.temporary))

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        head = _channel(events[0].channel.name)
        if len(events) == 1:
            return (Message(_push(head, _event(events[0])), binary=True),)
        return frames([_push(head, _event(event)) for event in events], b"", binary=True)

    def events_after(self, base: Publication | None, events: Sequence[Event]) -> Sequence[Message]:
        """Here `data` is the payload, or a Fossil delta from the previous one."""
        head = _channel(events[0].channel.name)
        pushes = []
        for event, data, is_delta in differences(base, events, _payload):
            if type(event) is Publication:
                member = _message(4, _publication(event, data, is_delta=is_delta))
            else:
                member = _event(event)
            pushes.append(_push(head, member))
        return frames(pushes, b"", binary=True)

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        # The push has no field for missed publications: they follow it. It knows fewer fields than the reply, too.
        fields = []
        if result.position is not None:
            fields += [_number(1, True), _text(4, result.position.epoch), _number(5, result.position.offset)]
            fields.append(_number(6, True))
        fields.append(_bytes(7, result.data))
        push = Message(_push(_channel(channel), _message(9, b"".join(fields))), binary=True)
        return (push, *self.events(result.publications)) if result.publications else (push,)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        told = _message(7, _number(2, code.code) + _text(3, code.reason))
        return (Message(_push(_channel(channel), told), binary=True),)

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        return (Message(_push(b"", _message(12, b"".join(_expiry(1, ttl > 0, ttl)))), binary=True),)

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        if is_told:
            return ()
        told = _message(11, _number(1, code.code) + _text(2, code.reason))
        return (Message(_push(b"", told), binary=True),)

    def ping(self) -> Sequence[Message]:
        return _PING

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        return frames([message.data for message in messages], b"", binary=True)


class SilentCentrifugeProtobufProtocol(CentrifugeProtobufProtocol):
    """Without pings: those of the transport take their place."""

    def open(self) -> "SilentCentrifugeProtobufProtocol":
        return self

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        return super().connected(id, msgspec.structs.replace(result, ping=0, pong=False))

    def ping(self) -> Sequence[Message]:
        return ()


# Tags by field number: no message has more fields than these. Fields with their default are left out.
_LENGTHS = [tag_of(number, LENGTH) for number in range(20)]
_VARINTS = [tag_of(number, VARINT) for number in range(20)]


def _message(field: int, data: bytes) -> bytes:
    """A field with a message, which is there even if it is empty."""
    return b"%b%b%b" % (_LENGTHS[field], written(len(data)), data)


def _bytes(field: int, data: bytes) -> bytes:
    return b"%b%b%b" % (_LENGTHS[field], written(len(data)), data) if data else b""


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _number(field: int, value: int) -> bytes:
    return _VARINTS[field] + written(value) if value else b""


def _expiry(field: int, expires: bool, ttl: int) -> tuple[bytes, bytes]:
    """`expires` and, in the next field, `ttl`."""
    return (_number(field, True), _number(field + 1, ttl)) if expires else (b"", b"")


def _map(field: int, entries: Iterator[tuple[str, bytes]]) -> Iterator[bytes]:
    """A map of messages."""
    for key, value in entries:
        yield _message(field, _text(1, key) + _message(2, value))


def _reply(id: int, field: int, result: bytes) -> Sequence[Message]:
    body = b"%b%b" % (_number(1, id), _message(field, result))
    return (Message(written(len(body)) + body, binary=True),)


@lru_cache(maxsize=4096)
def _channel(name: str) -> bytes:
    """The start of a push, the same for all pushes of a channel."""
    return _text(2, name)


def _push(head: bytes, member: bytes) -> bytes:
    """A reply with a push in it, behind its length."""
    size = len(head) + len(member)
    start = _LENGTHS[4] + written(size)
    return b"%b%b%b%b" % (written(len(start) + size), start, head, member)


def _event(event: Event) -> bytes:
    """The field of a push for this event."""
    if type(event) is Publication:
        return _message(4, _publication(event))
    assert type(event) is Membership
    return _message(5 if event.joined else 6, _message(1, _client_info(event.info)))


def _subscription(result: SubscribeResult) -> bytes:
    """A SubscribeResult."""
    position = result.position
    fields = [*_expiry(1, result.expires, result.ttl)]
    if position is not None:
        fields += (_number(3, True), _text(6, position.epoch))
    # In full even where deltas were negotiated.
    fields += [_message(7, _publication(each)) for each in result.publications]
    fields.append(_number(8, bool(result.recovered)))
    if position is not None:
        fields += (_number(9, position.offset), _number(10, True))
    fields += (_bytes(11, result.data), _number(12, result.recovered is not None), _number(13, result.delta))
    return b"".join(fields)


def _client_info(info: ClientInfo) -> bytes:
    return b"".join((_text(1, info.user), _text(2, info.client), _bytes(3, info.conn_info), _bytes(4, info.chan_info)))


def _payload(publication: Publication) -> bytes:
    """As it was published, whatever its kind."""
    return publication.data


def _publication(publication: Publication, data: bytes | None = None, *, is_delta: bool = False) -> bytes:
    """A Publication; `data`, if given, replaces the payload."""
    if data is None:
        data = publication.data
    payload = b"%b%b%b" % (_LENGTHS[4], written(len(data)), data)
    if publication.info is None and not publication.offset and publication.tags is None and not is_delta:
        return payload
    fields = [payload]
    if publication.info is not None:
        fields.append(_message(5, _client_info(publication.info)))
    fields.append(_number(6, publication.offset))
    for name, text in (publication.tags or {}).items():
        fields.append(_message(7, _text(1, name) + _text(2, text)))
    fields.append(_number(8, is_delta))
    if publication.offset == 1:
        # Tells the epoch to clients that subscribed before the stream existed.
        fields.append(_text(14, publication.epoch))
    return b"".join(fields)
