"""A WebSocket as a link, by picows."""

import socket
from collections.abc import Callable, Sequence

from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from gateway_loadtest.running.link import BROKEN, NotConnected, Owner, refusal
from gateway_loadtest.wires.contract import LARGEST, WebSocketWire

# Bytes: buffers grow when they have to, and 50,000 of the usual size would fill a machine.
READ_BUFFER = 1024
# Seconds, more than the caller waits: one text says that it took too long.
HANDSHAKE_TIMEOUT = 60.0


class WebSocketLink(WSListener):
    """As in Link."""

    def __init__(self, owner: Owner, wire: WebSocketWire) -> None:
        self._owner = owner
        self._wire = wire
        self._kind = WSMsgType.BINARY if wire.binary else WSMsgType.TEXT
        self._receive = owner.receive
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._code, self._reason = BROKEN, ""

    def send(self, frame: bytes) -> None:
        if self._transport is not None:
            self._transport.send(self._kind, frame)

    def end(self) -> None:
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def read(self, reading: bool) -> None:
        transport = self._transport.underlying_transport if self._transport is not None else None
        if transport is not None and not transport.is_closing():
            (transport.resume_reading if reading else transport.pause_reading)()

    # What picows calls

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if not self._owner.connected(self):
            return
        frames = self._wire.opening()
        for frame in frames:
            self.send(frame)
        if not frames:
            self._owner.ready_to_subscribe()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if self._transport is not None:
            self._transport = None
            self._fragments = bytearray()
            self._owner.lost(self, self._code, self._reason)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            self._on_close(transport, frame)
        elif kind is not WSMsgType.PING and kind is not WSMsgType.PONG:
            data = frame.get_payload_as_bytes()
            if frame.fin and not self._fragments:
                self._receive(data)
                return
            self._fragments += data
            if len(self._fragments) > LARGEST:
                self._owner.give_up(f"a message of more than {LARGEST} bytes")
            elif frame.fin:
                data, self._fragments = bytes(self._fragments), bytearray()
                self._receive(data)

    def _on_close(self, transport: WSTransport, frame: WSFrame) -> None:
        # An enum for the codes of RFC 6455, an int for others.
        code: WSCloseCode | int = frame.get_close_code()
        self._code = code if isinstance(code, int) else code.value
        self._reason = (frame.get_close_message() or b"").decode(errors="replace")
        transport.disconnect()


async def connect(
    owner: Owner,
    wire: WebSocketWire,
    target: str,
    channels: Sequence[str],
    source: Callable[[object], socket.socket] | None,
) -> None:
    """`source` makes the socket. Raises NotConnected, OSError (also of TLS) and TimeoutError."""
    try:
        await ws_connect(
            lambda: WebSocketLink(owner, wire),
            wire.url(target, channels),
            websocket_handshake_timeout=HANDSHAKE_TIMEOUT,
            read_buffer_init_size=READ_BUFFER,
            socket_factory=source,
            use_aiofastnet=False,
        )
    except WSHandshakeError as error:
        if error.response is None:
            raise NotConnected(str(error) or repr(error)) from None
        raise NotConnected(refusal("the upgrade", int(error.response.status), error.raw_body or b"")) from None
    except WSError as error:
        raise NotConnected(str(error) or repr(error)) from None
