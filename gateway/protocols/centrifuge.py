"""The native wire protocol: Centrifuge client protocol v2 in JSON (client.proto of centrifugal/protocol).

A frame carries commands, or replies, one JSON object a line. Payloads are never parsed into Python objects: they
are taken as raw JSON and spliced into every reply.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache

import msgspec
from msgspec.structs import astuple

from gateway.errors import BAD_COMMAND, Disconnect, ErrorCode, UnsubscribeCode
from gateway.messages import (
    ClientInfo,
    Connect,
    ConnectResult,
    Event,
    History,
    HistoryPage,
    Kind,
    MemberCounts,
    Membership,
    Pong,
    Position,
    Presence,
    PresenceStats,
    Publication,
    Publish,
    Refresh,
    RefreshResult,
    Request,
    Rpc,
    Send,
    SubRefresh,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsupported,
)
from gateway.protocols.base import Message
from gateway.protocols.payload import as_json, compact, mended

# A frame of many publications ends here and the next one begins: clients bound the size of one message
# (python-websockets at 1 MiB), and a publication alone may have 64 KiB.
FRAME_LIMIT = 64 * 1024

_EMPTY = msgspec.Raw()


class _Since(msgspec.Struct, frozen=True, gc=False):
    """StreamPosition."""

    offset: int = 0
    epoch: str = ""


class _SubPosition(msgspec.Struct, frozen=True, gc=False):
    """The part of a SubscribeRequest that a connect carries for server-side subscriptions."""

    recover: bool = False
    offset: int = 0
    epoch: str = ""


class _Body(msgspec.Struct, gc=False):
    """The fields of all commands that the gateway reads; each command uses its own."""

    channel: str = ""
    token: str = ""
    data: msgspec.Raw = _EMPTY
    name: str = ""
    version: str = ""
    method: str = ""
    # Positions. Offsets of another sign or size are no offsets, and answered as such.
    recover: bool = False
    offset: int = 0
    epoch: str = ""
    flag: int = 0
    subs: dict[str, _SubPosition] = {}
    limit: int = 0
    since: _Since | None = None
    reverse: bool = False


class _Command(msgspec.Struct, gc=False):
    """Command{id, exactly one body}. A body that is absent is None."""

    id: int = 0
    connect: _Body | None = None
    subscribe: _Body | None = None
    unsubscribe: _Body | None = None
    publish: _Body | None = None
    presence: _Body | None = None
    presence_stats: _Body | None = None
    history: _Body | None = None
    ping: _Body | None = None
    send: _Body | None = None
    rpc: _Body | None = None
    refresh: _Body | None = None
    sub_refresh: _Body | None = None


_decode_line = msgspec.json.Decoder(_Command).decode
_decode_lines = msgspec.json.Decoder(_Command).decode_lines
_MAX_ID = 2**32 - 1
_MAX_OFFSET = 2**63 - 1
# SubscribeRequest.flag: an error is preferred to a subscription that is not recovered.
_REJECT_UNRECOVERED = 2
_PING = (Message(b"{}"),)


class CentrifugeProtocol:
    """Commands in, replies and pushes out. Stateless."""

    name = "centrifuge"

    def decode(self, data: bytes, *, binary: bool) -> Sequence[Request]:
        """The commands of one frame. Raises Disconnect(3501) for anything else."""
        if binary:
            # The binary encoding of this protocol is Protobuf, which is not offered.
            raise Disconnect(BAD_COMMAND, "binary frame on a JSON connection")
        try:
            commands = _commands(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Disconnect(BAD_COMMAND, str(error)) from None
        if not commands:
            raise Disconnect(BAD_COMMAND, "empty frame")
        return [_request(command) for command in commands]

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        parts = [
            b'{"id":%d,"connect":{"client":"%b","version":"%b","ping":%d'
            % (id, result.client.encode(), result.version.encode(), result.ping)
        ]
        if result.pong:
            parts.append(b',"pong":true')
        if result.expires:
            parts.append(b',"expires":true,"ttl":%d' % result.ttl)
        if result.node:
            parts.append(b',"node":%b' % _quote(result.node))
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

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        temporary = b',"temporary":true' if error.temporary else b""
        text = _quote(error.message)
        return (Message(b'{"id":%d,"error":{"code":%d,"message":%b%b}}' % (id, error.code, text, temporary)),)

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        head = _push_head(events[0].channel.name)
        if len(events) == 1:
            return (Message(b"%b%b}}" % (head, _event(events[0]))),)
        frames: list[Message] = []
        lines: list[bytes] = []
        size = 0
        for event in events:
            line = b"%b%b}}" % (head, _event(event))
            if lines and size + len(line) > FRAME_LIMIT:
                frames.append(Message(b"\n".join(lines)))
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        frames.append(Message(b"\n".join(lines)))
        return frames

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        # The push has no room for what was missed: it follows.
        told = msgspec.structs.replace(result, publications=(), recovered=None)
        push = Message(b'{"push":{"channel":%b,"subscribe":{%b}}}' % (_quote(channel), _subscription(told)))
        return (push, *self.events(result.publications)) if result.publications else (push,)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        push = b'{"push":{"channel":%b,"unsubscribe":{"code":%d,"reason":%b}}}'
        return (Message(push % (_quote(channel), code.code, _quote(code.reason))),)

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        expiry = b'"expires":true,"ttl":%d' % ttl if ttl else b""
        return (Message(b'{"push":{"refresh":{%b}}}' % expiry),)

    def ping(self) -> Sequence[Message]:
        return _PING


def _commands(data: bytes) -> Sequence[_Command]:
    try:
        return _decode_lines(data) if b"\n" in data else (_decode_line(data),)
    except msgspec.DecodeError:
        whole = mended(data)
        if whole == data:
            raise
        return _decode_lines(whole)


def _request(command: _Command) -> Request:
    """The request in a command. Raises Disconnect(3501)."""
    name = _method(command)
    if name == "pong":
        return Pong()
    body: _Body = getattr(command, name)
    if name == "send":
        return Send(compact(bytes(body.data)))
    if not 0 < command.id <= _MAX_ID:
        raise Disconnect(BAD_COMMAND, f"{name} without an id between 1 and {_MAX_ID}")
    return _MAKERS[name](command.id, body)


def _method(command: _Command) -> str:
    """The name of the one body that is present; "pong" for an empty command without an id (the answer to a ping)."""
    # Counted first: this stands in the way of every publish.
    present = len(_METHODS) + 1 - astuple(command).count(None)
    if present == 2:
        if command.publish is not None:
            return "publish"
        return next(name for name in _METHODS if getattr(command, name) is not None)
    if present == 1 and command.id == 0:
        return "pong"
    raise Disconnect(BAD_COMMAND, "no command in the object" if present == 1 else "more than one command in the object")


_METHODS = tuple(field for field in _Command.__struct_fields__ if field != "id")


def _connect(id: int, body: _Body) -> Connect:
    positions = {name: _position(sub.offset, sub.epoch) for name, sub in body.subs.items() if sub.recover}
    return Connect(id, body.token, compact(bytes(body.data)), body.name, body.version, positions=positions)


def _subscribe(id: int, body: _Body) -> Subscribe:
    since = _position(body.offset, body.epoch) if body.recover else None
    reject = bool(body.flag & _REJECT_UNRECOVERED)
    return Subscribe(id, body.channel, body.token, compact(bytes(body.data)), since, reject)


def _history(id: int, body: _Body) -> History:
    since = None if body.since is None else _position(body.since.offset, body.since.epoch)
    return History(id, body.channel, body.limit, since, body.reverse)


_MAKERS: dict[str, Callable[[int, _Body], Request]] = {
    "connect": _connect,
    "subscribe": _subscribe,
    "unsubscribe": lambda id, body: Unsubscribe(id, body.channel),
    "publish": lambda id, body: Publish(id, body.channel, compact(bytes(body.data))),
    "presence": lambda id, body: Presence(id, body.channel),
    "presence_stats": lambda id, body: PresenceStats(id, body.channel),
    "history": _history,
    "ping": lambda id, body: Unsupported(id, "ping"),
    "rpc": lambda id, body: Rpc(id, body.method, compact(bytes(body.data))),
    "refresh": lambda id, body: Refresh(id, body.token),
    "sub_refresh": lambda id, body: SubRefresh(id, body.channel, body.token),
}


def _position(offset: int, epoch: str) -> Position:
    """Raises Disconnect for an offset that is not a uint64 of any stream."""
    if not 0 <= offset <= _MAX_OFFSET:
        raise Disconnect(BAD_COMMAND, "an offset that no stream has")
    return Position(offset, epoch)


def _quote(text: str) -> bytes:
    """A JSON string."""
    return msgspec.json.encode(text)


@lru_cache(maxsize=4096)
def _push_head(channel: str) -> bytes:
    """The start of a push; the same for everything that comes to a channel."""
    return b'{"push":{"channel":%b,' % _quote(channel)


def _event(event: Event) -> bytes:
    """A member of a push, with its name."""
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
    if result.recovered is not None:
        fields.append(b'"was_recovering":true')
    if result.recovered:
        fields.append(b'"recovered":true')
    if result.publications:
        fields.append(b'"publications":[%b]' % b",".join(map(_publication, result.publications)))
    return b",".join(fields)


def _client_info(info: ClientInfo) -> bytes:
    parts = [b'{"user":%b,"client":%b' % (_quote(info.user), _quote(info.client))]
    if info.conn_info:
        parts.append(b',"conn_info":%b' % info.conn_info)
    if info.chan_info:
        parts.append(b',"chan_info":%b' % info.chan_info)
    parts.append(b"}")
    return b"".join(parts)


def _publication(publication: Publication) -> bytes:
    """A Publication object of the protocol."""
    data = publication.data if publication.kind is Kind.JSON else as_json(publication)
    if publication.info is None and not publication.offset and publication.tags is None:
        return b'{"data":%b}' % data
    parts = [b'{"data":', data]
    if publication.info is not None:
        parts += [b',"info":', _client_info(publication.info)]
    if publication.offset:
        parts.append(b',"offset":%d' % publication.offset)
        if publication.offset == 1:
            # Whoever subscribed before there was a stream learns of its epoch.
            parts.append(b',"epoch":%b' % _quote(publication.epoch))
    if publication.tags:
        parts += [b',"tags":', msgspec.json.encode(publication.tags)]
    parts.append(b"}")
    return b"".join(parts)
