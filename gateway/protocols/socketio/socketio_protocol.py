"""Socket.IO v5 in the language of sessions: rooms are channels, and events are publications or calls.

| the client sends                                    | the session gets                                          |
|-----------------------------------------------------|-----------------------------------------------------------|
| CONNECT with `auth`                                 | a connect, with `auth.token` and with `auth` as its data  |
| `subscribe` or `join`, with a room                  | a subscribe; also `{channel, token}` instead of the room  |
| `unsubscribe` or `leave`, with a room               | an unsubscribe                                            |
| an event that `events` maps to a channel            | a publish of its one argument, which keeps the name       |
| `publish` with a room and one more argument         | a publish of that, if the channel lets clients publish    |
| any other event                                     | a call of the application, with the list of its arguments |

An acknowledgement has what the request brought; after an error its one argument is `{"error": {code, message}}`. A
client gets publications as events of their own name, or as `message`.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from gateway import errors
from gateway.errors import (
    BAD_COMMAND,
    CONNECTION_CLOSED,
    MESSAGE_TOO_BIG,
    CloseCode,
    Disconnect,
    ErrorCode,
    RequestError,
    UnsubscribeCode,
)
from gateway.messages import (
    Call,
    ClientInfo,
    Connect,
    ConnectResult,
    Event,
    HistoryPage,
    Kind,
    Malformed,
    MemberCounts,
    Position,
    Publication,
    Publish,
    RefreshResult,
    Request,
    Subscribe,
    SubscribeResult,
    Unsubscribe,
    Unsupported,
)
from gateway.protocols.socketio import socketio_encoder
from gateway.protocols.socketio.attachments import Assembler, payload_of
from gateway.protocols.socketio.positions import Positions, after, parse
from gateway.protocols.socketio.socketio_packets import (
    DEFAULT_NAMESPACE,
    Argument,
    SocketAck,
    SocketConnect,
    SocketDisconnect,
    SocketEvent,
)
from gateway.protocols.wire_protocol import Heartbeat, Message

# The name of a publication that has none, as in everybody's first chat.
DEFAULT_EVENT = "message"
# What the gateway itself tells, beside publications.
UNSUBSCRIBED = "gateway:unsubscribed"
STANDING = "gateway:position"
JOINS = frozenset(("subscribe", "join"))
LEAVES = frozenset(("unsubscribe", "leave"))
PUBLISH = "publish"
# Requests that one client may wait for, with and without an acknowledgement.
MOST_ASKED = 4096


class _Room(msgspec.Struct, gc=False):
    """A room with the token that opens it."""

    channel: str
    token: str | None = None


class _Auth(msgspec.Struct, gc=False):
    token: msgspec.Raw = msgspec.Raw()
    # Of a client that comes back: its private id, and the last argument of the last event that it got.
    pid: msgspec.Raw = msgspec.Raw()
    offset: msgspec.Raw = msgspec.Raw()


# As token_urlsafe(16) makes them, and servers of Socket.IO.
_PID = re.compile(r"[A-Za-z0-9_-]{1,64}")

_decode_room = msgspec.json.Decoder(str | _Room).decode
_decode_auth = msgspec.json.Decoder(_Auth).decode
_decode_text = msgspec.json.Decoder(str).decode


# What a request came from: the event's acknowledgement id, or one of these.
_UNACKNOWLEDGED = -1
_CONNECT = -2
_REJOIN = -3


class Namespace(NamedTuple):
    """What clients may do in one namespace."""

    # Channels by the names of events that clients may publish.
    events: Mapping[str, str]
    # Every client is subscribed to this channel, and to one of its own with the prefix `own`; empty for none.
    everyone: str
    # Of a packet with its buffers.
    max_bytes: int
    own: str = ""
    # Otherwise `auth.token` is for the application only.
    reads_tokens: bool = True
    # Whether clients that reconnect get what they missed.
    recovers: bool = False
    name: str = DEFAULT_NAMESPACE


class SocketIOProtocol:
    """One namespace. Makes a codec for each session, which gets its packets without the `4` of Engine.IO."""

    heartbeat = Heartbeat.BELOW

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def open(self) -> "SocketIOCodec":
        return SocketIOCodec(self)

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Publications only: Socket.IO has no word for joins and leaves."""
        return [message for event in events if type(event) is Publication for message in self._published(event)]

    def _published(self, publication: Publication) -> Sequence[Message]:
        name, offset = publication.event or DEFAULT_EVENT, self._offset(publication)
        return socketio_encoder.published(publication, name, namespace=self.namespace.name, offset=offset)

    def _offset(self, publication: Publication) -> str:
        """What a client continues from that has got the publication; empty where it cannot."""
        return ""

    def stand(self, channel: str, position: Position | None) -> None:
        """A client is in a channel, and has got everything up to this position."""

    def left(self, channel: str) -> None:
        """It is not any more."""

    def told(self) -> Sequence[Message]:
        """Tell the client where it stands: it knows from events only, and may get none for long."""
        return ()

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The missed publications. A server that joins a socket to a room tells it nothing else."""
        self.stand(channel, result.position)
        return (*self.events(result.publications), *self.told())

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        told = msgspec.json.encode({"channel": channel, "code": code.code, "reason": code.reason})
        return (Message(socketio_encoder.event(UNSUBSCRIBED, told, namespace=self.namespace.name)), *self.told())

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        return ()

    def ping(self) -> Sequence[Message]:
        """Engine.IO pings."""
        return ()

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        """A packet is a message of its own."""
        return messages


class OneRoomProtocol(SocketIOProtocol):
    """For all clients that are in a single room: their offsets are the same."""

    def _offset(self, publication: Publication) -> str:
        return after(publication)


class PersonalProtocol(SocketIOProtocol):
    """For one client, with its positions in all its rooms."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace)
        self._positions = Positions()

    def _offset(self, publication: Publication) -> str:
        self._positions.get(publication)
        return str(self._positions)

    def stand(self, channel: str, position: Position | None) -> None:
        # The channel of its own ends with the client's id, which is another one when it comes back.
        own = self.namespace.own
        if not own or not channel.startswith(own):
            self._positions.stand(channel, position)

    def left(self, channel: str) -> None:
        self._positions.leave(channel)

    def told(self) -> Sequence[Message]:
        offset = str(self._positions)
        return (Message(socketio_encoder.event(STANDING, b"", namespace=self.namespace.name, offset=offset)),)


class _Recovery:
    """What a client that reconnects still waits for before it is told that it is connected."""

    __slots__ = ("client", "is_whole", "pid", "waiting")

    def __init__(self, pid: str) -> None:
        self.pid = pid
        # Requests that are not answered.
        self.waiting: set[int] = set()
        self.client = ""
        # Whether it has got everything that it missed.
        self.is_whole = True


class SocketIOCodec:
    """One connection: which requests have to be acknowledged, and the buffers of an incomplete packet."""

    __slots__ = ("_asked", "_assembler", "_last", "_namespace", "_protocol", "_recovery")

    def __init__(self, protocol: SocketIOProtocol) -> None:
        self._protocol = protocol
        self._namespace = protocol.namespace
        self._recovery: _Recovery | None = None
        self._assembler = Assembler(protocol.namespace.max_bytes)
        # By the id of the request, in the order of asking.
        self._asked: dict[int, int] = {}
        self._last = 0

    def count(self, data: bytes) -> int:
        return 1

    def cut(self, data: bytes, start: int) -> tuple[bytes, int]:
        return data, len(data)

    def decode(self, command: bytes, *, binary: bool) -> Sequence[Request]:
        """The request in one packet, or with a buffer of it. Raises Disconnect."""
        packet = self._assembler.add(command, binary=binary)
        match packet:
            case SocketConnect():
                return self._connect(packet)
            case SocketEvent():
                return (self._event(packet),)
            case SocketDisconnect():
                raise Disconnect(CONNECTION_CLOSED, "the client disconnected")
            case SocketAck() | None:
                # Nothing that is sent here asks for an acknowledgement.
                return ()

    def _connect(self, packet: SocketConnect) -> Sequence[Request]:
        """The connect; and for a client that comes back, the subscribes of its rooms."""
        auth = _decode_auth(packet.auth or b"{}")
        token = _text(auth.token) if self._namespace.reads_tokens else ""
        everyone, own = self._namespace.everyone, self._namespace.own
        joins = (everyone,) if everyone else ()
        rooms = parse(_text(auth.offset)) if self._namespace.recovers else None
        pid = _text(auth.pid)
        id = self._ask(_CONNECT)
        if not rooms or not _PID.fullmatch(pid):
            return (Connect(id, token, data=packet.auth, joins=joins, own=own),)
        positions = {room: position for room, position in rooms.items() if position is not None}
        subscribes = [
            Subscribe(self._ask(_REJOIN), room, since=position, all_or_nothing=position is not None)
            for room, position in rooms.items()
            if room != everyone
        ]
        self._recovery = _Recovery(pid)
        self._recovery.waiting = {id, *(each.id for each in subscribes)}
        return (Connect(id, token, positions=positions, data=packet.auth, joins=joins, own=own), *subscribes)

    def _event(self, packet: SocketEvent) -> Request:
        id = self._ask(_UNACKNOWLEDGED if packet.id is None else packet.id)
        if packet.name in JOINS or packet.name in LEAVES:
            return self._of_room(id, packet)
        channel = self._namespace.events.get(packet.name)
        if channel is not None:
            return _publish(id, channel, packet.arguments, packet.name)
        if packet.name != PUBLISH:
            return self._call(id, packet.name, packet.arguments)
        room = packet.arguments[0] if packet.arguments else None
        if room is None or room.kind is not Kind.JSON or room.data[:1] != b'"':
            return Malformed(id, "publish without a room, which is a string")
        return _publish(id, _decode_text(room.data), packet.arguments[1:], "")

    def _of_room(self, id: int, packet: SocketEvent) -> Request:
        try:
            (argument,) = packet.arguments
            room = _decode_room(argument.data)
        except ValueError:
            return Malformed(id, f"{packet.name} without a room: a string, or an object with channel and token")
        channel, token = (room, "") if isinstance(room, str) else (room.channel, room.token or "")
        return Subscribe(id, channel, token) if packet.name in JOINS else Unsubscribe(id, channel)

    def _call(self, id: int, name: str, arguments: Sequence[Argument]) -> Request:
        if any(each.kind is Kind.BINARY or each.holds_buffers for each in arguments):
            return Unsupported(id, "a call with a buffer")
        namespace = self._namespace.name
        method = name if namespace == DEFAULT_NAMESPACE else f"{namespace},{name}"
        return Call(id, method, b"[%b]" % b",".join(each.data for each in arguments))

    def _ask(self, asked: int) -> int:
        """The id of a request. Raises Disconnect if too many are unanswered."""
        if len(self._asked) >= MOST_ASKED:
            raise Disconnect(errors.TOO_MANY_COMMANDS, f"Socket.IO: more than {MOST_ASKED} events wait")
        self._last += 1
        self._asked[self._last] = asked
        return self._last

    def _acknowledged(self, id: int, arguments: bytes = b"") -> Sequence[Message]:
        asked = self._asked.pop(id, _UNACKNOWLEDGED)
        if asked < 0:
            return ()
        return (Message(socketio_encoder.ack(asked, arguments, namespace=self._namespace.name)),)

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        """The public id of the socket, then what was missed in channels of the server.

        Clients keep events that come before it, and need them there to count as recovered.
        """
        self._asked.pop(id, None)
        recovery = self._recovery
        missed: list[Message] = []
        for channel, sub in (result.subs or {}).items():
            self._protocol.stand(channel, sub.position)
            missed += self._protocol.events(sub.publications)
            if recovery is not None and sub.recovered is False:
                recovery.is_whole = False
        if recovery is not None:
            recovery.client = result.client
            return (*missed, *self._recovered(recovery, id))
        return (self._hello(result.client, ""), *missed, *self._protocol.told())

    def _recovered(self, recovery: _Recovery, id: int) -> Sequence[Message]:
        """A request of a client that comes back is answered."""
        recovery.waiting.discard(id)
        if recovery.waiting:
            return ()
        self._recovery = None
        return (self._hello(recovery.client, recovery.pid if recovery.is_whole else ""), *self._protocol.told())

    def _hello(self, client: str, pid: str) -> Message:
        """`pid`: that of a client that has recovered everything; otherwise it gets a new one."""
        if self._namespace.recovers:
            pid = pid or secrets.token_urlsafe(16)
        return Message(socketio_encoder.connected(client, pid, namespace=self._namespace.name))

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        self._protocol.stand(channel, result.position)
        told = self._protocol.told()
        missed = self._protocol.events(result.publications)
        if self._asked.get(id) == _REJOIN:
            return (*missed, *self._rejoined(id, is_whole=result.recovered is not False))
        # Who has the acknowledgement has the offset, too, whenever its connection breaks.
        return (*told, *self._acknowledged(id, msgspec.json.encode({"channel": channel})), *missed)

    def _rejoined(self, id: int, *, is_whole: bool) -> Sequence[Message]:
        del self._asked[id]
        recovery = self._recovery
        if recovery is None:
            return ()
        recovery.is_whole &= is_whole
        return self._recovered(recovery, id)

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        return ()

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        return ()

    def unsubscribed(self, id: int) -> Sequence[Message]:
        return (*self._protocol.told(), *self._acknowledged(id, b"{}"))

    def published(self, id: int) -> Sequence[Message]:
        return self._acknowledged(id, b"{}")

    def history(self, id: int, page: HistoryPage) -> Sequence[Message]:
        return ()

    def presence(self, id: int, members: Sequence[ClientInfo]) -> Sequence[Message]:
        return ()

    def presence_stats(self, id: int, counts: MemberCounts) -> Sequence[Message]:
        return ()

    def answered(self, id: int, data: bytes) -> Sequence[Message]:
        return self._acknowledged(id, data)

    def failed(self, id: int, error: ErrorCode) -> Sequence[Message]:
        """The refusal of a CONNECT, after which clients stay away; or the acknowledgement of an event."""
        asked = self._asked.get(id)
        if asked == _REJOIN:
            # The server may have subscribed it first, and then has told how that went.
            return self._rejoined(id, is_whole=error == errors.ALREADY_SUBSCRIBED)
        if error == errors.ALREADY_SUBSCRIBED:
            # Joining twice is no error in Socket.IO.
            return self._acknowledged(id, b"{}")
        if asked != _CONNECT:
            return self._acknowledged(id, b'{"error":%b}' % _told(error))
        if error.temporary:
            # Clients try again when their transport closes.
            raise Disconnect(errors.SERVER_ERROR, error.message)
        del self._asked[id]
        return self._refused(error.message, _told(error))

    def goodbye(self, code: CloseCode, *, is_told: bool) -> Sequence[Message]:
        """Clients reconnect when their transport closes. Those that should not get a DISCONNECT, or a CONNECT_ERROR."""
        if code.is_final and _CONNECT in self._asked.values():
            return self._refused(code.reason, _told(code))
        if not code.is_final or code in (BAD_COMMAND, MESSAGE_TOO_BIG):
            # As in the reference, what violates the protocol or a limit only closes the transport.
            return ()
        return (Message(socketio_encoder.disconnected(namespace=self._namespace.name)),)

    def _refused(self, message: str, told: bytes) -> Sequence[Message]:
        return (Message(socketio_encoder.connect_error(message, told, namespace=self._namespace.name)),)


def _publish(id: int, channel: str, arguments: Sequence[Argument], event: str) -> Publish | Malformed:
    if len(arguments) != 1:
        return Malformed(id, f"{len(arguments)} arguments to publish, expected one")
    try:
        data, kind = payload_of(arguments[0])
    except RequestError as error:
        return Malformed(id, error.detail)
    return Publish(id, channel, data, kind, event)


def _text(value: msgspec.Raw) -> str:
    """A JSON string; empty for anything else."""
    raw = bytes(value)
    return _decode_text(raw) if raw[:1] == b'"' else ""


def _told(error: ErrorCode | CloseCode) -> bytes:
    reason = error.reason if isinstance(error, CloseCode) else error.message
    return msgspec.json.encode({"code": error.code, "message": reason})
