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

from collections.abc import Mapping, Sequence

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


_decode_room = msgspec.json.Decoder(str | _Room).decode
_decode_auth = msgspec.json.Decoder(_Auth).decode
_decode_text = msgspec.json.Decoder(str).decode


# What a request came from: the event's acknowledgement id, or one of these.
_UNACKNOWLEDGED = -1
_CONNECT = -2


class SocketIOProtocol:
    """One namespace. Makes a codec for each session, which gets its packets without the `4` of Engine.IO."""

    heartbeat = Heartbeat.BELOW

    def __init__(
        self,
        events: Mapping[str, str],
        everyone: str,
        max_bytes: int,
        *,
        own: str = "",
        reads_tokens: bool = True,
        namespace: str = DEFAULT_NAMESPACE,
    ) -> None:
        """`events`: channels by the names of events that clients may publish. Every client is subscribed to the channel
        `everyone` and to one of its own, with the prefix `own`, unless they are empty.

        A packet with its buffers has at most `max_bytes`. Without `reads_tokens`, `auth.token` is for the application
        only.
        """
        self.namespace = namespace
        self.channels = events
        self.joins = (everyone,) if everyone else ()
        self.own = own
        self.reads_tokens = reads_tokens
        self.max_bytes = max_bytes

    def open(self) -> "SocketIOCodec":
        return SocketIOCodec(self)

    def events(self, events: Sequence[Event]) -> Sequence[Message]:
        """Publications only: Socket.IO has no word for joins and leaves."""
        return [
            message
            for event in events
            if type(event) is Publication
            for message in socketio_encoder.published(event, event.event or DEFAULT_EVENT, namespace=self.namespace)
        ]

    def push_subscribe(self, channel: str, result: SubscribeResult) -> Sequence[Message]:
        """The missed publications. A server that joins a socket to a room tells it nothing."""
        return self.events(result.publications)

    def push_unsubscribe(self, channel: str, code: UnsubscribeCode) -> Sequence[Message]:
        told = msgspec.json.encode({"channel": channel, "code": code.code, "reason": code.reason})
        return (Message(socketio_encoder.event(UNSUBSCRIBED, told, namespace=self.namespace)),)

    def push_refresh(self, ttl: int) -> Sequence[Message]:
        return ()

    def ping(self) -> Sequence[Message]:
        """Engine.IO pings."""
        return ()

    def batch(self, messages: Sequence[Message]) -> Sequence[Message]:
        """A packet is a message of its own."""
        return messages


class SocketIOCodec:
    """One connection: which requests have to be acknowledged, and the buffers of an incomplete packet."""

    __slots__ = ("_asked", "_assembler", "_last", "_protocol")

    def __init__(self, protocol: SocketIOProtocol) -> None:
        self._protocol = protocol
        self._assembler = Assembler(protocol.max_bytes)
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
                return (self._connect(packet),)
            case SocketEvent():
                return (self._event(packet),)
            case SocketDisconnect():
                raise Disconnect(CONNECTION_CLOSED, "the client disconnected")
            case SocketAck() | None:
                # Nothing that is sent here asks for an acknowledgement.
                return ()

    def _connect(self, packet: SocketConnect) -> Request:
        token = ""
        if packet.auth and self._protocol.reads_tokens:
            raw = bytes(_decode_auth(packet.auth).token)
            if raw[:1] == b'"':
                token = _decode_text(raw)
        return Connect(self._ask(_CONNECT), token, data=packet.auth, joins=self._protocol.joins, own=self._protocol.own)

    def _event(self, packet: SocketEvent) -> Request:
        id = self._ask(_UNACKNOWLEDGED if packet.id is None else packet.id)
        if packet.name in JOINS or packet.name in LEAVES:
            return self._of_room(id, packet)
        channel = self._protocol.channels.get(packet.name)
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
        namespace = self._protocol.namespace
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
        return (Message(socketio_encoder.ack(asked, arguments, namespace=self._protocol.namespace)),)

    def connected(self, id: int, result: ConnectResult) -> Sequence[Message]:
        """The public id of the socket, then what was missed in channels of the server."""
        self._asked.pop(id, None)
        subs = (result.subs or {}).values()
        missed = [message for sub in subs for message in self._protocol.events(sub.publications)]
        own = socketio_encoder.connected(result.client, namespace=self._protocol.namespace)
        return (Message(own), *missed)

    def subscribed(self, id: int, channel: str, result: SubscribeResult) -> Sequence[Message]:
        return (
            *self._acknowledged(id, msgspec.json.encode({"channel": channel})),
            *self._protocol.events(result.publications),
        )

    def refreshed(self, id: int, result: RefreshResult) -> Sequence[Message]:
        return ()

    def sub_refreshed(self, id: int, result: SubscribeResult) -> Sequence[Message]:
        return ()

    def unsubscribed(self, id: int) -> Sequence[Message]:
        return self._acknowledged(id, b"{}")

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
        if self._asked.get(id) != _CONNECT:
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
        return (Message(socketio_encoder.disconnected(namespace=self._protocol.namespace)),)

    def _refused(self, message: str, told: bytes) -> Sequence[Message]:
        return (Message(socketio_encoder.connect_error(message, told, namespace=self._protocol.namespace)),)


def _publish(id: int, channel: str, arguments: Sequence[Argument], event: str) -> Publish | Malformed:
    if len(arguments) != 1:
        return Malformed(id, f"{len(arguments)} arguments to publish, expected one")
    try:
        data, kind = payload_of(arguments[0])
    except RequestError as error:
        return Malformed(id, error.detail)
    return Publish(id, channel, data, kind, event)


def _told(error: ErrorCode | CloseCode) -> bytes:
    reason = error.reason if isinstance(error, CloseCode) else error.message
    return msgspec.json.encode({"code": error.code, "message": reason})
