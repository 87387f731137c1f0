"""uvicorn's HTTP class with bounds on everything that comes before a request is complete, and our WebSockets."""

import asyncio
import urllib.parse
from collections.abc import Sequence
from typing import Any

import httptools
from uvicorn import Config

from gateway.errors import GatewayError
from gateway.extensions import AUTHENTICATED, DETACH
from gateway.session.transport import Connection
from gateway.transports.admission import Place, Refusal
from gateway.transports.flow import BoundedFlowControl
from gateway.transports.http_options import HttpOptions
from gateway.transports.http_stream.stream_transport import StreamTransport
from gateway.transports.responses import error_response, header_lines, refusal_headers
from gateway.transports.uvicorn_internals import HttpToolsProtocol, RequestResponseCycle, ServerState
from gateway.transports.websocket import opening
from gateway.transports.websocket.upgrade import Upgrade

# Bytes a second that a request body has to come with, averaged over header_timeout.
SLOWEST_BODY = 512
# Chunks of a body of any size; beyond them they hold so many bytes on average. A chunk costs 0.3 us, whatever is in it:
# bodies in small ones took 150 times as long as others.
ANY_CHUNKS = 512
MEAN_CHUNK = 128
# Bytes around a chunk: its size in up to eight digits, two line ends.
CHUNK_OVERHEAD = 12
# Escapes (%41) in a request target; a channel's name has 255 characters. 5,000 take ten times as long as an opening.
MOST_ESCAPES = 1_024
# Requests of one connection that wait for the one before them.
MOST_PIPELINED = 16


class _Violation(GatewayError):
    """Raised out of the parser's callbacks: the request is answered with a status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class GatewayHttpProtocol(HttpToolsProtocol):
    """One connection before it is a WebSocket, or for as long as it speaks HTTP.

    Bounded are the bytes and number of headers (431, 414), the time to send them (408), the size of a body (413), that
    of its chunks (400), and the pace at which it comes (408). One timer at most: until the head is complete, then until
    the body is.
    """

    def __init__(
        self,
        options: HttpOptions,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._options = options
        # What it occupies; set before the connection is made where somebody counted it already.
        self.place: Place | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head_size = 0
        self._wants_websocket = False
        # Of the body at hand: its bytes, how many there were when the deadline was set, those on the wire, its chunks.
        self._body_size = 0
        self._body_checked = 0
        self._body_wire = 0
        self._chunks = 0
        self._violation: _Violation | None = None
        # What applications get besides ASGI, once there is a request for one.
        self._extensions: dict[str, Any] = {}
        # The request that an application is answering, behind which others may wait.
        self._served: RequestResponseCycle | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """A connection arrives, and has to say something soon."""
        # As uvicorn does, with fewer system calls.
        self.connections.add(self)
        self.transport = transport
        self.flow: BoundedFlowControl = BoundedFlowControl(transport, self.loop)
        name = transport.get_extra_info("sockname")
        # Without scope and flow label of IPv6; of a Unix socket the path.
        self.server = name[:2] if isinstance(name, tuple) else (str(name), None)
        peer = transport.get_extra_info("peername")
        self.client = peer[:2] if isinstance(peer, tuple) else None
        self.scheme = "https" if transport.get_extra_info("sslcontext") else "http"
        admission = self._options.admission
        if admission is not None and self.place is None:
            self.place = admission.enter(self.client[0] if self.client else "", transport.abort)
            if (overflow := admission.overflow(self.place)) is not None:
                self._refuse_upgrade(overflow)
                self._options.on_overflow()
                return
        elif self.place is not None:
            self.place.drop = transport.abort
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._clear_deadline()
        if self.place is not None:
            self.place.leave()
        super().connection_lost(exc)
        self.flow.stop()
        self._withdraw()

    def data_received(self, data: bytes) -> None:
        """Bytes of requests, in pieces of any size."""
        self._unset_keepalive_if_required()
        if self.parser is None or self.transport.is_closing():
            return
        if self._in_head:
            self._head_size += len(data)
        else:
            self._body_wire += len(data)
        try:
            self.parser.feed_data(data)
            self._check_sizes()
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            if self._should_upgrade():
                self._upgrade(rest)
            else:
                self._ignore_upgrade(rest)
        except (httptools.HttpParserError, _Violation) as error:
            self._fail(self._violation or (error if isinstance(error, _Violation) else _Violation(400, "malformed")))
        else:
            # A request that is not complete yet; most come in one piece and need no timer.
            if self._deadline is None and (self._head_size or not self._in_head):
                self._set_deadline()
            if self.place is not None and not self.place.has_authenticated:
                self.flow.has_read(len(data))

    def _check_sizes(self) -> None:
        """Bound what the parser gathers before it calls."""
        header_bytes = self._options.limits.header_bytes
        if self._in_head:
            if self._head_size > header_bytes:
                only_target = not self.headers and len(self.url) * 2 > self._head_size
                raise _Violation(*((414, "request line too long") if only_target else (431, "headers too big")))
        elif self._body_wire > self._body_size + CHUNK_OVERHEAD * self._chunks + header_bytes:
            # Chunk extensions and trailers (RFC 9112 section 7.1): nothing reads them.
            raise _Violation(400, "body framing too big")

    # Called by the server

    def shutdown(self) -> None:
        """The server ends. What a request under way detaches from now on is to end as well."""
        self._options.drain.start()
        super().shutdown()

    def abort(self) -> None:
        """Drop the socket at once."""
        self.transport.abort()

    # Called by the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head = True
        self._body_size = self._body_checked = self._body_wire = self._chunks = 0

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        super().on_url(url)
        if len(self.url) > self._options.limits.header_bytes:
            self._violate(414, "request line too long")
        if self.url.count(b"%") > MOST_ESCAPES:
            self._violate(414, "too many escapes in the request target")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        super().on_header(name, value)
        if len(self.headers) > self._options.limits.header_count:
            self._violate(431, "too many headers")

    def on_headers_complete(self) -> None:
        """The head is complete: what it promises is checked before the application is started."""
        limits = self._options.limits
        self._clear_deadline()
        # What came with the head may be body: only then it is counted again, without.
        if self._head_size > limits.header_bytes:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > limits.header_bytes:
                self._violate(431, "headers too big")
        self._head_size = 0
        for name, value in self.headers:
            if name == b"content-length" and int(value) > self._options.max_body:
                self._violate(413, "body too big")
        if len(self.pipeline) >= MOST_PIPELINED:
            self._violate(429, "too many pipelined requests")
        if self.parser.should_upgrade():
            self._wants_websocket = opening.is_asked_for(self.headers)
            if self.parser.get_method() == b"CONNECT":
                # The only method that is an upgrade by itself; this is no proxy.
                self._violate(501, "CONNECT")
            if not self._wants_websocket:
                return
        super().on_headers_complete()
        if not self._wants_websocket:
            self._offer()
        self._in_head = False

    def on_chunk_header(self) -> None:
        """A chunk begins, or the end of the chunks."""
        self._chunks += 1
        if self._chunks > ANY_CHUNKS + self._body_size // MEAN_CHUNK:
            self._violate(400, "chunks too small")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_size += len(body)
        if self._body_size > self._options.max_body:
            self._violate(413, "body too big")
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._clear_deadline()
        self._in_head = True
        self._head_size = 0
        if not self.parser.should_upgrade():
            super().on_message_complete()

    # Upgrades

    def _should_upgrade(self) -> bool:
        """Whether it is our kind of upgrade."""
        return self._wants_websocket

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answer the request as if nothing had been asked (RFC 9110 section 7.8).

        httptools skips the body of every upgrade, and would take it for the next request. A parser that sees no
        Upgrade header reads it. Java's HttpClient and `curl --http2` ask for h2c whenever they have no TLS.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        head = [b"%b %b HTTP/%b" % (method, self.url, version.encode())]
        head += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        # As uvicorn's first one: bytes behind a request that closes the connection are no error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join([*head, b"\r\n"]) + rest)

    def _upgrade(self, rest: bytes) -> None:
        """Hand the socket over; `rest` came behind the request."""
        options = self._options
        self._clear_deadline()
        refusal = options.admission.check() if options.admission is not None else None
        if refusal is not None:
            self._refuse_upgrade(refusal)
            return
        if self.cycle is not None and not self.cycle.response_complete:
            # An answer to an earlier request is still being written.
            self.transport.close()
            return
        checked = opening.check(self.scope["method"], self.scope["http_version"], self.headers)
        if isinstance(checked, opening.Refused):
            options.metrics.protocol_errors.add("handshake")
            self._answer(error_response(checked.status, checked.message, [*self._default_headers, *checked.headers]))
            return
        try:
            scope = self._websocket_scope()
        except (httptools.HttpParserInvalidURLError, AttributeError):
            # httptools gives None for the path that is missing in http://host.
            self._fail(_Violation(400, "malformed"))
            return
        self._hand_over(checked, scope, rest)

    def _hand_over(self, accept_key: bytes, scope: dict[str, Any], rest: bytes) -> None:
        self._let_go()
        sockets = self._options.sockets(self.connections)
        upgrade = Upgrade(
            sockets,
            self.transport,
            self.place,
            accept_key,
            self._default_headers,
            rest,
            congested=self.flow.write_paused,
        )
        task = self.loop.create_task(upgrade.run(self.app, scope))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def _let_go(self) -> None:
        """The socket is somebody else's from now on."""
        self.connections.discard(self)
        self._clear_deadline()
        self.flow.let_go()
        # Parser and protocol refer to each other: without this they would wait for the garbage collector.
        self.parser = None  # type: ignore[assignment]  # as uvicorn does in connection_lost

    # Long responses

    def _offer(self) -> None:
        """Extend the scope of the request. All requests of the connection get the same."""
        self.scope["extensions"] = self._extensions
        if self._extensions:
            return
        self._extensions[DETACH] = {"place": self.place, "detach": self._detach}
        if self.place is not None:
            self._extensions[AUTHENTICATED] = {"authenticated": self.place.authenticated}

    def _withdraw(self) -> None:
        """The scopes of requests hold what refers to this, and this holds them."""
        self._extensions.clear()
        self._served = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._served = cycle
        super()._start_asgi_task(cycle, app)

    def _detach(self, headers: Sequence[tuple[bytes, bytes]], connection: Connection, place: Place) -> None:
        """Let the connection have the socket for a response that does not end, and with which the socket does.

        Requests behind this one get no answer. Where the socket is closed already, the connection hears nothing.
        """
        cycle = self._served
        if cycle is None or cycle.response_started or cycle.more_body:
            raise RuntimeError("only a whole request that nobody has answered can be detached")
        framed = [(b"transfer-encoding", b"chunked")] if cycle.scope["http_version"] == "1.1" else []
        lines = header_lines([*self._default_headers, *headers, *framed, (b"connection", b"close")])
        is_gone = cycle.disconnected or self.transport.is_closing()
        # As of a request whose client is gone, and which uvicorn therefore leaves alone.
        cycle.response_started = cycle.response_complete = cycle.disconnected = True
        if is_gone:
            place.leave()
            return
        self.pipeline.clear()
        # It may find the socket congested by answers before, and say so to this protocol.
        self.transport.write(b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"\r\n"]))
        stream = StreamTransport(self._options.sockets(self.connections), self.transport, connection, place)
        self._let_go()
        self._withdraw()
        connection.opened(stream)
        if self.flow.write_paused:
            stream.pause_writing()

    def _websocket_scope(self) -> dict[str, Any]:
        url = httptools.parse_url(self.url)
        path = urllib.parse.unquote(url.path.decode("ascii"))
        return {
            **self.scope,
            "type": "websocket",
            "asgi": {"version": self.asgi_version, "spec_version": "2.4"},
            "scheme": "wss" if self.scheme == "https" else "ws",
            "path": self.root_path + path,
            "raw_path": self.root_path.encode("ascii") + url.path,
            "query_string": url.query or b"",
            "subprotocols": opening.offered_subprotocols(self.headers),
        }

    # Refusals

    @property
    def _default_headers(self) -> list[tuple[bytes, bytes]]:
        return self.server_state.default_headers

    def _refuse_upgrade(self, refusal: Refusal) -> None:
        assert self._options.admission is not None
        address = self.place.waits_at if self.place is not None else ""
        self._options.admission.refused(refusal.reason, refusal.setting, address)
        self._answer(
            error_response(refusal.status, refusal.message, [*self._default_headers, *refusal_headers(refusal)])
        )

    def _violate(self, status: int, reason: str) -> None:
        """Stop the parser. httptools hides what its callbacks raise, so the reason is kept."""
        self._violation = _Violation(status, reason)
        raise self._violation

    def _fail(self, violation: _Violation) -> None:
        """Count it, answer it where nothing else is being answered, and close."""
        self._violation = violation.detach()
        self._clear_deadline()
        self._options.metrics.protocol_errors.add(violation.reason)
        cycle = self.cycle
        is_own = not self._in_head and not self.pipeline
        if cycle is None or cycle.response_complete or (is_own and not cycle.response_started):
            if cycle is not None:
                # The application's own answer, if it still comes, finds the connection gone.
                cycle.disconnected = True
                cycle.message_event.set()
            self._answer(error_response(violation.status, violation.reason, self._default_headers))
        else:
            self.transport.close()

    def _answer(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()
            self.flow.closing()

    def on_response_complete(self) -> None:
        """An answer of the application is written, if not read."""
        self.timeout_keep_alive = self._options.limits.keep_alive  # type: ignore[assignment]  # for call_later
        super().on_response_complete()
        self.flow.closing()

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        super().timeout_keep_alive_handler()
        self.flow.closing()

    # Deadlines

    def _set_deadline(self) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(self._options.limits.header_timeout, self._overdue)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _overdue(self) -> None:
        self._deadline = None
        if self._in_head:
            self._fail(_Violation(408, "head too slow"))
            return
        arrived = self._body_size - self._body_checked
        self._body_checked = self._body_size
        if self.flow.read_paused or arrived >= SLOWEST_BODY * self._options.limits.header_timeout:
            self._set_deadline()
        else:
            self._fail(_Violation(408, "body too slow"))
