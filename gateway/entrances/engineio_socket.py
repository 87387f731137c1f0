"""A connection of Engine.IO v4: its heartbeat, and a session for each namespace of Socket.IO that its client joined."""

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

from gateway import errors
from gateway.auth.rate_limits import TokenBucket
from gateway.entrances.directory import Directory
from gateway.errors import BAD_COMMAND, CONNECTION_CLOSED, MESSAGE_TOO_BIG, CloseCode, Disconnect
from gateway.hub.encoder import Encoder, Framing
from gateway.protocols.socketio import socketio_encoder
from gateway.protocols.socketio.engineio_packets import PING, EngineType
from gateway.protocols.socketio.engineio_packets import decode as decode_engine
from gateway.protocols.socketio.socketio_packets import CONNECT, DISCONNECT, decode, head_of, refuse
from gateway.protocols.socketio.socketio_protocol import OneRoomProtocol, PersonalProtocol, SocketIOProtocol
from gateway.protocols.wire_protocol import Message, StandingProtocol, WireProtocol
from gateway.session.services import SessionServices
from gateway.session.session import Session
from gateway.session.transport import Connection, Transport, Write
from gateway.transports.admission import Admission

# What the reference answers to a CONNECT to a namespace that it does not know.
INVALID_NAMESPACE = "Invalid namespace"

# CONNECTs of one connection per second and at once, beside one for each namespace. Each makes a session (90 us, and
# limits that start afresh) and asks the application; one to an unknown namespace is answered with up to 300 bytes.
JOINS_PER_SECOND = 50

# Makes the session of a namespace.
OpenSession = Callable[[Encoder], Session]


class EngineHost(NamedTuple):
    """What all connections of Engine.IO share."""

    services: SessionServices[Session]
    # By the names of the namespaces.
    protocols: Mapping[str, SocketIOProtocol]
    # The same for clients in a single room, where clients recover.
    one_room: Mapping[str, OneRoomProtocol]
    encoders: Callable[[Framing], Callable[[WireProtocol], Encoder]]
    directory: Directory
    admission: Admission
    # The connections that have joined no namespace yet, and so have no session.
    unjoined: "set[EngineSocket]"


class EngineSocket:
    """One connection. Implements the Connection port of the transports, and what the wheel calls.

    The application sees sessions only: a connection whose client joins none is closed after heartbeat.connect_timeout.
    """

    __slots__ = (
        "_buffers",
        "_framing",
        "_greeting",
        "_host",
        "_is_congested",
        "_is_over",
        "_join_by",
        "_joins",
        "_open_session",
        "_ping_at",
        "_pong_by",
        "_receiver",
        "_sessions",
        "_unread",
        "due",
        "secret",
        "transport",
    )

    transport: Transport

    def __init__(
        self, host: EngineHost, framing: Framing, open_session: OpenSession, *, secret: str = "", greeting: bytes = b""
    ) -> None:
        """`secret`: what its requests name it by, if the client polls. `greeting`: the first packet; empty for none."""
        self._host = host
        self._framing = framing
        self._open_session = open_session
        self._greeting = greeting
        self.secret = secret
        self.due = 0
        self._sessions: dict[str, Session] = {}
        # Binary messages that are still to come, and the namespace that they are for.
        self._buffers = 0
        self._receiver = ""
        # Namespaces whose sessions take no more for now.
        self._unread: set[str] = set()
        self._is_congested = False
        self._is_over = False
        # Limits what its client joins. None before the first time.
        self._joins: TokenBucket | None = None
        # Monotonic seconds; 0 for never.
        self._join_by = self._ping_at = self._pong_by = 0.0

    # Connection port

    def opened(self, transport: Transport) -> None:
        self.transport = transport
        services = self._host.services
        now, heartbeat = services.scheduler.now(), services.heartbeat
        self._join_by = now + heartbeat.connect_timeout
        # At a random time, to spread clients out.
        self._ping_at = now + heartbeat.ping_interval * random.uniform(0.5, 1)  # noqa: S311 - jitter
        self._host.unjoined.add(self)
        self._reschedule(now)
        greeting, self._greeting = self._greeting, b""
        if greeting:
            self._write(greeting)

    def received(self, data: bytes, *, binary: bool) -> None:
        if self._is_over:
            return
        try:
            self._take(data, binary=binary)
        except Disconnect as error:
            self.fail(error)

    def ponged(self) -> None:
        """Not asked for: Engine.IO has pings of its own."""

    def pause_writing(self) -> None:
        self._is_congested = True
        for session in list(self._sessions.values()):
            session.pause_writing()

    def resume_writing(self) -> None:
        self._is_congested = False
        for session in list(self._sessions.values()):
            session.resume_writing()

    def closed(self, code: int, reason: str) -> None:
        self._is_over = True
        self._host.services.wheel.cancel(self)
        self._host.unjoined.discard(self)
        self._host.directory.closed(self.secret)
        while self._sessions:
            self._sessions.popitem()[1].closed(code, reason)

    def shed(self) -> None:
        if not self._sessions:
            self.close(errors.SLOW)
        for session in list(self._sessions.values()):
            session.shed()

    def shutdown(self) -> None:
        self.close(errors.SHUTDOWN)

    # What the client sends

    def _take(self, data: bytes, *, binary: bool) -> None:
        """Raises Disconnect."""
        if not binary:
            if data.startswith(b"4"):
                self._take_packet(data[1:])
                return
            packet = decode_engine(data, binary=False)
            if not packet.binary:
                self._take_signal(packet.type)
                return
            data = packet.data
        if not self._buffers:
            refuse("a binary message that no packet has announced")
        self._buffers -= 1
        # Its session may have ended since.
        if (session := self._sessions.get(self._receiver)) is not None:
            session.received(data, binary=True)

    def _take_signal(self, type: EngineType) -> None:
        if type is EngineType.PONG:
            # One too many is no error, as in the reference: after a move, this node may not have sent the ping.
            if self._pong_by:
                self._pong_by = 0.0
                self._reschedule(self._host.services.scheduler.now())
        elif type is EngineType.CLOSE:
            self.close(CONNECTION_CLOSED)
        else:
            raise Disconnect(BAD_COMMAND, f"Engine.IO: {type.name.lower()} from a client")

    def _take_packet(self, data: bytes) -> None:
        if self._buffers:
            refuse("text while binary messages are to come")
        type, namespace, attachments = head_of(data)
        session = self._sessions.get(namespace)
        if type == CONNECT:
            if session is not None:
                refuse("a second CONNECT to a namespace")
            session = self._join(namespace)
            if session is None:
                return
        elif session is None:
            refuse("a packet for a namespace that was not joined")
        elif type == DISCONNECT:
            decode(data)
            self._leave(namespace, session)
            return
        self._buffers, self._receiver = attachments, namespace
        session.received(data, binary=False)

    def _join(self, namespace: str) -> Session | None:
        """A session for a namespace, which gets the CONNECT; None if there is no such namespace. Raises Disconnect."""
        if self._joins is None:
            self._joins = TokenBucket(JOINS_PER_SECOND + len(self._host.protocols))
        if not self._joins.take(self._host.services.scheduler.now()):
            raise Disconnect(errors.TOO_MANY_COMMANDS, "Socket.IO: too many CONNECTs")
        protocol = self._host.protocols.get(namespace)
        if protocol is None:
            self._write(socketio_encoder.connect_error(INVALID_NAMESPACE, namespace=namespace))
            return None
        self._join_by = 0.0
        self._host.unjoined.discard(self)
        session = self._open_session(self._encoder(protocol))
        self._sessions[namespace] = session
        session.opened(NamespaceTransport(self, namespace, self.transport))
        if self._is_congested:
            session.pause_writing()
        if self._host.admission.draining:
            # It came too late to be among those that are closed one after another.
            session.shutdown()
        return session

    def _encoder(self, protocol: SocketIOProtocol, standing: StandingProtocol | None = None) -> Encoder:
        """The encoder of a session; `standing` is its own protocol, if it has one already."""
        encoders = self._host.encoders(self._framing)
        if not protocol.namespace.recovers:
            return encoders(protocol)
        one_room = self._host.one_room[protocol.namespace.name]
        return Encoder.for_one(standing or PersonalProtocol(protocol.namespace), self._framing, encoders(one_room))

    def _leave(self, namespace: str, session: Session) -> None:
        del self._sessions[namespace]
        self.read_on(namespace)
        session.closed(*CONNECTION_CLOSED)
        if not self._sessions:
            now = self._host.services.scheduler.now()
            self._join_by = now + self._host.services.heartbeat.connect_timeout
            self._reschedule(now)

    # What its sessions call

    def hold_reading(self, namespace: str) -> None:
        """The session of a namespace takes no more."""
        if not self._unread:
            self.transport.pause_reading()
        self._unread.add(namespace)

    def read_on(self, namespace: str) -> None:
        """It takes more."""
        if namespace in self._unread:
            self._unread.discard(namespace)
            if not self._unread and not self._is_over:
                self.transport.resume_reading()

    def ended(self, namespace: str, code: CloseCode) -> None:
        """A session has ended, with this code.

        Clients come back by themselves only to a connection that was closed. So that is closed unless they shall stay
        away; and as in the reference for what violates the protocol.
        """
        session = self._sessions.pop(namespace, None)
        if session is None:
            return
        self.read_on(namespace)
        for message in session.codec.goodbye(code, is_told=False):
            self.transport.write(self._framing.frame([message]))
        stays = code == CONNECTION_CLOSED or (code.is_final and code not in (BAD_COMMAND, MESSAGE_TOO_BIG))
        if not self._sessions or not stays:
            self.close(code)

    def close(self, code: CloseCode) -> None:
        """Close the connection, and so end all sessions."""
        if not self._sessions and not self._is_over and self._join_by:
            # Sessions count their own ends.
            self._host.services.count_close(code)
        while self._sessions:
            self._sessions.popitem()[1].disconnect(code)
        if not self._is_over:
            self._is_over = True
            self._host.services.wheel.cancel(self)
            self._host.unjoined.discard(self)
            self.transport.close(code, self._framing.close(code))

    def fail(self, error: Disconnect) -> None:
        """Close the connection for what the client did, and log why."""
        error.detach()
        session = next(iter(self._sessions.values()), None)
        client, user = ("", "") if session is None else (session.client, session.user.name)
        self._host.services.refusals.disconnected(client=client, user=user, error=error)
        self.close(error.code)

    # Deadlines

    @property
    def weight(self) -> int:
        """What the wheel calls may end all sessions."""
        return 1 + sum(session.weight for session in self._sessions.values())

    def on_timer(self) -> None:
        """Called by the wheel."""
        now, heartbeat = self._host.services.scheduler.now(), self._host.services.heartbeat
        if self._join_by and now >= self._join_by:
            self.close(errors.STALE)
            return
        if self._pong_by and now >= self._pong_by:
            if not self._unread:
                self.close(errors.NO_PONG)
                return
            # The answer may be waiting in the socket, which is not being read.
            self._pong_by = now + heartbeat.pong_timeout
        elif not self._pong_by and now >= self._ping_at:
            self._write(PING)
            self._ping_at = now + heartbeat.ping_interval
            self._pong_by = now + heartbeat.pong_timeout
        self._reschedule(now)

    def _reschedule(self, now: float) -> None:
        first = min(due for due in (self._pong_by or self._ping_at, self._join_by) if due)
        self._host.services.wheel.schedule(self, max(first - now, 0.0))

    def _write(self, packet: bytes) -> None:
        self.transport.write(self._framing.frame([Message(packet)]))

    # The move from polling to a WebSocket

    @property
    def is_over(self) -> bool:
        """Whether it is closed, though the client may not know yet."""
        return self._is_over

    def flush(self) -> None:
        """Have the sessions write what waits for the transport."""
        for session in list(self._sessions.values()):
            session.out.uncork()
            session.resume_writing()

    def move(self, transport: Transport, framing: Framing) -> None:
        """Go on over another transport. Nothing may wait to be written: see `flush`."""
        self._host.directory.closed(self.secret)
        self.transport, self._framing, self._is_congested = transport, framing, False
        if self._unread:
            transport.pause_reading()
        else:
            transport.resume_reading()
        for namespace, session in list(self._sessions.items()):
            encoder = self._encoder(self._host.protocols[namespace], session.out.encoder.standing)
            session.move(NamespaceTransport(self, namespace, transport), encoder)
        transport.drive(self)


class NamespaceTransport:
    """The Transport port of a session that shares its connection with those of other namespaces."""

    __slots__ = ("_namespace", "_socket", "write")

    def __init__(self, socket: EngineSocket, namespace: str, transport: Transport) -> None:
        self.write: Write = transport.write
        self._socket = socket
        self._namespace = namespace

    def close(self, code: CloseCode, goodbye: bytes) -> None:
        """End the namespace. (The goodbye would end the connection.)"""
        self._socket.ended(self._namespace, code)

    def drive(self, connection: Connection) -> None:
        """Nothing: the socket calls its sessions."""

    def release(self, goodbye: bytes) -> None:
        """Nothing: the socket has moved, with all its sessions."""

    def abort(self) -> None:
        """Drop the whole connection."""
        self._socket.transport.abort()

    def authenticated(self) -> None:
        """Of the whole connection."""
        self._socket.transport.authenticated()

    def pause_reading(self) -> None:
        """For all namespaces: their packets come in one stream."""
        self._socket.hold_reading(self._namespace)

    def resume_reading(self) -> None:
        """Unless another session takes nothing."""
        self._socket.read_on(self._namespace)
