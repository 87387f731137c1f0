"""A client of Engine.IO that polls: what its requests do, on whichever node they arrive."""

import asyncio
from functools import partial

import msgspec

from gateway.entrances.directory import Answer
from gateway.entrances.engineio_socket import EngineSocket
from gateway.errors import Disconnect
from gateway.hub.encoder import Framing
from gateway.protocols.socketio.engineio_packets import CLOSE, decode_own, split_body
from gateway.session.transport import Transport
from gateway.transports.long_polling.polling_transport import PollingTransport

# Seconds for which the first packets of a new client are kept, so that its WebSocket may arrive at another node and
# take them there. Clients that poll for good connect later by this time. Two round trips pass until a WebSocket is
# there; of 12 clients that started at once on two busy cores, with 0.3 s 4 came too late.
HOLD = 0.5
# Seconds from a WebSocket's arrival to the end of the upgrade. As in the reference.
UPGRADE_TIMEOUT = 10.0
# Bytes that are kept in that time, and what a packet takes beside its own.
MOST_HELD = 64 * 1024
PACKET_OVERHEAD = 48


class Verb:
    """What a request is about: its first byte. (MESSAGE of emulation.py is none of them.)"""

    POLL = b"r"
    SEND = b"w"
    # The one who polled is gone.
    LEAVE = b"x"
    # A WebSocket has arrived: here, or at another node.
    NEAR = b"n"
    FAR = b"f"
    # It was probed, and polls shall end; or it is gone.
    PROBE = b"p"
    FAIL = b"e"
    # The client sends over it from now on, at another node.
    TAKE = b"t"


class Status:
    """How an answer begins."""

    # Of a client that has authenticated, or has not yet.
    GOOD = b"+"
    NEW = b"~"
    BAD = b"-"


class PollingClient:
    """The Addressed port of a connection that polls."""

    def __init__(self, socket: EngineSocket, transport: PollingTransport, *, may_move: bool) -> None:
        """`may_move`: there are other nodes, at which the client's WebSocket may arrive."""
        self._socket = socket
        self._transport = transport
        self._is_sending = False
        self._is_upgrading = False
        # Packets that the socket has not got yet; None once it gets them at once.
        self._early: list[bytes] | None = None
        self._early_size = 0
        self._timer: asyncio.TimerHandle | None = None
        if may_move:
            self._early = []
            self._hold(HOLD)

    @property
    def secret(self) -> str:
        """As in the Addressed port."""
        return self._socket.secret

    def asked(self, request: bytes, answer: Answer) -> None:
        """As in the Addressed port."""
        verb = request[:1]
        if verb == Verb.POLL:
            self._poll(answer)
        elif verb == Verb.SEND:
            self._send(request[1:], answer)
        else:
            answer(self._told(verb))

    def upgrade(self, transport: Transport, framing: Framing) -> bool:
        """Go on over a WebSocket of this node. False if the connection is over, or ends with what it has to write."""
        socket = self._socket
        socket.flush()
        while unread := self._transport.take():
            transport.write(framing.frame(decode_own(unread)))
            # What waited for the client to poll comes next.
            socket.flush()
        if socket.is_over:
            # Nobody would close the WebSocket any more.
            return False
        socket.move(transport, framing)
        self._transport.release(b"")
        self._release()
        return True

    def _told(self, verb: bytes) -> bytes:
        """What is answered at once."""
        if verb == Verb.LEAVE:
            self._transport.abort()
        elif verb in (Verb.NEAR, Verb.FAR):
            # One WebSocket at a time. Another node takes only what this one has not begun to work on.
            if self._socket.is_over or self._is_upgrading or (verb == Verb.FAR and self._early is None):
                return Status.BAD
            self._is_upgrading = True
            if verb == Verb.NEAR:
                # It goes on here, whether over the WebSocket or not.
                self._release()
            else:
                self._hold(UPGRADE_TIMEOUT)
        elif verb == Verb.PROBE:
            self._transport.hurry(hurries=True)
        elif verb == Verb.FAIL:
            self._is_upgrading = False
            self._transport.hurry(hurries=False)
            self._release()
        elif verb == Verb.TAKE and self._early is not None and not self._socket.is_over:
            early, self._early = self._early, None
            self._transport.leave()
            return Status.GOOD + msgspec.msgpack.encode(early)
        else:
            return Status.BAD
        return self._status

    @property
    def _status(self) -> bytes:
        return Status.GOOD if self._transport.has_authenticated else Status.NEW

    def _poll(self, answer: Answer) -> None:
        def fetched(body: bytes | None) -> None:
            answer(Status.BAD if body is None else self._status + body)

        if not self._transport.poll(fetched):
            # As in the reference, the connection ends.
            self._transport.abort()
            answer(Status.BAD)

    def _send(self, body: bytes, answer: Answer) -> None:
        if self._is_sending:
            # As in the reference.
            self._transport.abort()
            answer(Status.BAD)
            return
        if self._socket.is_over or not self._take(body):
            answer(Status.BAD)
            return
        self._is_sending = True
        self._transport.when_read(partial(self._sent, answer))

    def _sent(self, answer: Answer) -> None:
        self._is_sending = False
        answer(self._status)

    def _take(self, body: bytes) -> bool:
        """Whether a body has packets, whatever becomes of them."""
        try:
            for packet in split_body(body, len(body)):
                if packet == CLOSE:
                    self._transport.leave()
                    return True
                self._receive(packet)
        except Disconnect as error:
            self._socket.fail(error)
            return False
        return True

    def _receive(self, packet: bytes) -> None:
        if self._early is None:
            self._socket.received(packet, binary=False)
            return
        self._early.append(packet)
        self._early_size += len(packet) + PACKET_OVERHEAD
        if self._early_size > MOST_HELD:
            self._release()

    def _hold(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._release)

    def _release(self) -> None:
        """Hand over what was kept, and keep nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        early, self._early = self._early or (), None
        for packet in early:
            self._socket.received(packet, binary=False)
